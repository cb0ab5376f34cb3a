package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/watch"
)

// probesAtOnce is how many probes of one [RunChecks] are under way at a time.
const probesAtOnce = 128

// RunChecks carries out checks of instances, as [HostCheck] describes them,
// together with all others who do, until ctx ends; it returns its cause then. It
// is what hosts run. Each check is one process's: it owns it by a key on its lease,
// every verdict that it writes compares that key, and when it dies others go on
// from what it found. It is for the namespace "default", those of
// [WithCheckNamespaces], and every other one in which an instance with checks was
// registered by somebody who may write in "default".
//
// As long as no instance has a check it costs one watch. Errors are core.ErrInvalid
// for options outside their limits.
func RunChecks(ctx context.Context, c *clientv3.Client, opts ...Option) error {
	o, err := newOptions(opts)
	if err != nil {
		return fmt.Errorf("checks: %w", err)
	}
	r := &rounds{c: c, log: o.log, probes: guardedProber(o.checkNetworks), slots: make(chan struct{}, probesAtOnce),
		wards: make(map[string]bool), streams: new(watch.Streams)}
	r.begin(ctx, defaultNamespace)
	for _, ns := range o.checkNamespaces {
		r.begin(ctx, ns)
	}
	<-ctx.Done()
	r.closing()
	return context.Cause(ctx)
}

// rounds are all checks of one process.
type rounds struct {
	c       *clientv3.Client
	log     *slog.Logger
	probes  prober
	slots   chan struct{} // of probes under way
	streams *watch.Streams

	mu    sync.Mutex
	over  bool
	wards map[string]bool // namespaces
	work  sync.WaitGroup
}

// begin looks after a namespace from now on.
func (r *rounds) begin(ctx context.Context, namespace string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.wards[namespace] {
		return
	}
	r.wards[namespace] = true
	w := newWard(r, namespace)
	r.work.Go(func() { w.run(ctx) })
}

func (r *rounds) closing() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.work.Wait()
}

// A patient is an instance with checks, as its definition says.
type patient struct {
	service, id string
	rev         int64 // of the definition
	definition
}

// A ward is what a process knows of the checks of one namespace.
type ward struct {
	*rounds
	namespace, prefix string
	wake              chan struct{} // one token: something changed

	mu       sync.Mutex
	patients [shards]map[string]patient // by the definition's key
	count    int
	owners   map[string]owner // by key
	hosts    map[string]bool  // by lease
}

// An owner is who owns a shard.
type owner struct {
	rev   int64
	lease clientv3.LeaseID
}

func newWard(r *rounds, namespace string) *ward {
	w := &ward{rounds: r, namespace: namespace, prefix: checkPrefix(namespace), wake: make(chan struct{}, 1)}
	w.clear()
	return w
}

func (w *ward) clear() {
	for k := range w.patients {
		w.patients[k] = make(map[string]patient)
	}
	w.count, w.owners, w.hosts = 0, make(map[string]owner), make(map[string]bool)
}

// run follows the namespace until ctx ends, and works while there is work.
func (w *ward) run(ctx context.Context) {
	var d duty
	defer d.end()
	for pause := pause(refused); ctx.Err() == nil; {
		for b, err := range watch.Observe(ctx, w.c, w.prefix, watch.ObserveOptions{Streams: w.streams, Logger: w.log}) {
			if err != nil {
				if ctx.Err() == nil {
					w.log.Warn("checks cannot be watched; it will be tried again", "namespace", w.namespace, "error", err)
				}
				break
			}
			w.take(ctx, b)
			if w.idle() {
				d.end()
			} else {
				d.begin(ctx, w)
			}
			w.nudge()
		}
		if pause.wait(ctx) != nil || w.c.Ctx().Err() != nil {
			return
		}
	}
}

func (w *ward) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *ward) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count == 0
}

// take takes in what etcd says.
func (w *ward) take(ctx context.Context, b watch.Batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.Snapshot {
		w.clear()
	}
	for _, ev := range b.Events {
		w.event(ctx, ev)
	}
}

func (w *ward) event(ctx context.Context, ev *clientv3.Event) {
	key, gone := string(ev.Kv.Key), ev.Type == clientv3.EventTypeDelete
	kind, rest := cutKind(key[len(w.prefix):])
	switch kind {
	case defined:
		w.define(key, rest, ev, gone)
	case owners:
		delete(w.owners, key)
		if !gone {
			w.owners[key] = owner{ev.Kv.ModRevision, clientv3.LeaseID(ev.Kv.Lease)}
		}
	case checkers:
		delete(w.hosts, rest)
		if !gone {
			w.hosts[rest] = true
		}
	case namespaces:
		if ns, err := keyspace.Unescape(rest); !gone && err == nil && keyspace.CheckNamespace("namespace", ns) == nil {
			w.begin(ctx, ns)
		}
	}
}

// define takes in a definition, or its end.
func (w *ward) define(key, rest string, ev *clientv3.Event, gone bool) {
	service, id, ok := parseCheck(rest)
	if !ok {
		return
	}
	in := w.patients[shardOf(service, id)]
	if _, known := in[key]; known {
		delete(in, key)
		w.count--
	}
	p := patient{service: service, id: id, rev: ev.Kv.ModRevision}
	if gone || !p.read(ev.Kv.Value) {
		return
	}
	in[key] = p
	w.count++
}

// A duty is the work in a namespace while it has checks: a session, and what is
// done under it.
type duty struct {
	stop context.CancelFunc // nil: none is on
	done chan struct{}
}

func (d *duty) begin(ctx context.Context, w *ward) {
	if d.stop != nil {
		return
	}
	ctx, d.stop = context.WithCancel(ctx)
	d.done = make(chan struct{})
	go func(done chan<- struct{}) {
		defer close(done)
		w.keep(ctx)
	}(d.done)
}

func (d *duty) end() {
	if d.stop == nil {
		return
	}
	d.stop()
	<-d.done
	d.stop = nil
}

// WithCheckNamespaces makes [RunChecks] look after these namespaces too, whoever
// registers there.
func WithCheckNamespaces(namespaces ...string) Option {
	return func(o *options) { o.checkNamespaces = namespaces }
}

// WithCheckNetworks makes [RunChecks] go to addresses of these networks only;
// a check of anything else fails. Without it, it goes anywhere but to link-local
// addresses.
func WithCheckNetworks(networks ...netip.Prefix) Option {
	return func(o *options) { o.checkNetworks = networks }
}

// checkTTL is after how long others go on when a process dies.
const checkTTL = 10 * time.Second
