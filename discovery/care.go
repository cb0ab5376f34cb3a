package discovery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
)

// A care is what a process does for one instance while it owns its checks.
type care struct {
	*charge
	key    string // the instance's
	define string // the definition's
	stop   context.CancelFunc
	news   chan patient // the newest definition that was not looked at

	told int64 // the revision of the newest, for who tells

	// Of its own goroutine.
	now   patient
	found []State
	whys  []string // what the probes last said that changed a state
	doubt int64    // what a verdict compares that may be on its way; 0: none is
	dirty bool     // the record may not say what was found
}

// begin cares for an instance.
func (c *charge) begin(define string, p patient) *care {
	it := &care{charge: c, define: define, key: instanceKey(c.namespace, p.service, p.id), news: make(chan patient, 1)}
	ctx, stop := context.WithCancel(c.ctx)
	it.stop = stop
	it.tell(p)
	c.work.Go(func() { it.run(ctx) })
	return it
}

// tell tells of a definition, which may be a new one. It is called by one
// goroutine only.
func (it *care) tell(p patient) {
	if p.rev == it.told {
		return
	}
	it.told = p.rev
	select {
	case <-it.news:
	default:
	}
	it.news <- p
}

// A finding is what a check came to believe.
type finding struct {
	check int
	state State
	why   error
}

// run probes, and writes what it finds, until ctx ends.
func (it *care) run(ctx context.Context) {
	found := make(chan finding)
	stop := func() {}
	defer func() { stop() }()
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	var failures pause
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-it.news:
			if p.rev == it.now.rev {
				continue
			}
			same := p.Reg == it.now.Reg && slices.Equal(p.Checks, it.now.Checks)
			before := it.now
			it.now, it.dirty = p, true
			if !same {
				stop()
				it.resume(ctx, before)
				stop = it.probe(ctx, found)
			}
		case f := <-found:
			it.found[f.check], it.dirty = f.state, true
			it.whys[f.check] = why(it.now.Checks[f.check].URL, f)
		case <-again.C:
		}
		if err := it.settle(ctx); err != nil && ctx.Err() == nil {
			it.log.Debug("a verdict could not be written", "service", it.now.service, "id", it.now.id, "error", err)
			again.Reset(failures.next())
			continue
		}
		failures = 0
	}
}

// resume sets what the checks begin with. What an earlier owner found counts, and of
// a definition that changed what was found of what stayed.
func (it *care) resume(ctx context.Context, before patient) {
	found, whys := it.found, it.whys
	it.found, it.whys = make([]State, len(it.now.Checks)), make([]string, len(it.now.Checks))
	switch {
	case before.rev == 0:
		it.inherit(ctx)
	case before.Reg == it.now.Reg:
		for k := range min(len(found), len(it.found)) {
			if before.Checks[k].URL == it.now.Checks[k].URL {
				it.found[k], it.whys[k] = found[k], whys[k]
			}
		}
	}
}

func (it *care) inherit(ctx context.Context) {
	kv, err := it.read(ctx)
	if err != nil || kv == nil {
		return
	}
	if r, ok := recordIn(kv); ok && r.Reg == it.now.Reg && len(r.Health.said()) == len(it.found) {
		copy(it.found, r.Health.Said)
		it.whys[it.worst()] = r.Health.Why
	}
}

// worst is the check that makes the instance's state.
func (it *care) worst() int {
	w := 0
	for k, s := range it.found {
		if s.rank() > it.found[w].rank() {
			w = k
		}
	}
	return w
}

// probe begins with the checks, and returns what ends them.
func (it *care) probe(ctx context.Context, found chan<- finding) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{}, len(it.now.Checks))
	for k, c := range hostChecks(it.now.Checks) {
		h := hysteresis{check: Check{Probe: it.looking(c.URL), Interval: c.Interval, Timeout: c.Timeout, Rise: c.Rise, Fall: c.Fall}, state: it.found[k], slots: it.slots}
		first := time.Duration(0)
		if h.state != "" { // spread, since many begin at once when a host dies
			first = rand.N(c.Interval)
		}
		go func() {
			_ = h.monitor(ctx, first, func(s State, why error) {
				select {
				case found <- finding{k, s, why}:
				case <-ctx.Done():
				}
			})
			done <- struct{}{}
		}()
	}
	return func() {
		cancel()
		for range cap(done) {
			<-done
		}
	}
}

// looking is the probe of a URL; of one that cannot be looked at, a failure.
func (it *care) looking(url string) Probe {
	p, err := it.probes.probe(url)
	if err != nil {
		return func(context.Context) error { return err }
	}
	return p
}

func (it *care) read(ctx context.Context) (*mvccpb.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	resp, err := it.s.Client().Get(ctx, it.key)
	if err != nil || len(resp.Kvs) == 0 {
		return nil, err
	}
	return resp.Kvs[0], nil
}

// errOvertaken says that something changed since the record was read.
var errOvertaken = errors.New("the record, its definition or the owner of its checks has changed")

// settle makes the record say what was found. It is the protocol of
// docs/protocol-discovery.md, and discovery/internal/model searches it.
func (it *care) settle(ctx context.Context) error {
	if !it.dirty || slices.Contains(it.found, "") {
		return nil
	}
	kv, err := it.read(ctx)
	if err != nil {
		return err
	}
	var r record
	why := it.whys[it.worst()]
	if kv != nil {
		r, _ = recordIn(kv)
	}
	// What is absent, or another's, comes back with another definition. And what says
	// what it should is left alone, but for a verdict that may be on its way: it would
	// find the revision that it compares.
	if kv == nil || r.Reg != it.now.Reg || r.State == left || r.Health.says(it.found, why) && kv.ModRevision != it.doubt {
		it.dirty = false
		return nil
	}
	at := time.Now().UTC().Truncate(time.Millisecond)
	r.Health = &health{Said: slices.Clone(it.found), Why: why, By: it.s.Owner(), At: &at}
	return it.write(ctx, kv, r)
}

func (it *care) write(ctx context.Context, kv *mvccpb.KeyValue, r record) error {
	value, err := r.over(kv, "health")
	if err != nil {
		return err
	}
	res, err := it.s.Engine().Do(ctx, commit.Txn{
		Scope: []string{it.key},
		If: []clientv3.Cmp{
			clientv3.Compare(clientv3.ModRevision(it.key), "=", kv.ModRevision),
			clientv3.Compare(clientv3.ModRevision(it.define), "=", it.now.rev),
			clientv3.Compare(clientv3.ModRevision(it.charge.key), "=", it.rev),
		},
		Then:   []clientv3.Op{clientv3.OpPut(it.key, value, clientv3.WithLease(clientv3.LeaseID(kv.Lease)))},
		Likely: true,
	})
	switch {
	case errors.Is(err, core.ErrUnknownOutcome):
		it.doubt = kv.ModRevision
		return err
	case err != nil:
		return err
	case !res.Succeeded:
		return errOvertaken
	}
	it.dirty = false
	it.log.Info("hosts' checks change an instance's health", "service", it.now.service, "id", it.now.id, "states", fmt.Sprint(it.found), "why", r.Health.Why)
	return nil
}

// why says what a check found, for people.
func why(url string, f finding) string {
	if f.why == nil {
		return ""
	}
	s := strings.ToValidUTF8(fmt.Sprintf("%.200s: %s", url, f.why), "?")
	for len(s) > MaxLabel {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}
