package rendezvous

import (
	"context"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
)

// A Holder holds a barrier, or held it and was lost.
type Holder struct {
	Record
	Token int64
	Lost  bool
}

// Holders returns who holds a barrier, and whose loss broke it, by one
// linearizable read.
func (h *Hall) Holders(ctx context.Context, name string) ([]Holder, error) {
	if err := (&HoldRequest{Name: name}).Check(); err != nil {
		return nil, err
	}
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	p := h.use(name, "")
	defer h.drop(p)
	v, _, err := p.readHoldings(ctx)
	if err != nil {
		return nil, h.lookError(ctx, err)
	}
	return v.holders(), nil
}

func (v *holdings) holders() []Holder {
	var all []Holder
	for _, kv := range v.held {
		all = append(all, Holder{Record: recordOf(kv.Value), Token: kv.ModRevision << tokenShift})
	}
	for _, r := range v.lost {
		all = append(all, Holder{Record: r, Lost: true})
	}
	return all
}

// ResumeHold returns the hold of the session, or any persistent one, whichever
// process wrote it. Unless token is 0 it must be the hold's. Else the error is made
// by lost.
func (h *Hall) ResumeHold(ctx context.Context, name string, token int64, lost func(error) error) (*Held, error) {
	if err := (&HoldRequest{Name: name}).Check(); err != nil {
		return nil, err
	}
	call, done, err := h.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	p := h.use(name, "")
	defer h.drop(p)
	v, _, err := p.readHoldings(call)
	if err != nil {
		return nil, h.lookError(call, err)
	}
	for _, kv := range v.held {
		id := idOf(kv.Key)
		mine := strings.HasPrefix(id, leasePart(h.e)) || recordOf(kv.Value).Persistent && token != 0
		if mine && (token == 0 || token>>tokenShift == kv.ModRevision) {
			return p.held(ctx, id, kv.ModRevision, true, lost), nil
		}
	}
	if h.e.LeaseGone(call) {
		return nil, h.ended()
	}
	return nil, lost(fmt.Errorf("%w: the session does not hold it", core.ErrReleased))
}

// Open takes every hold of a barrier away, and says how many there were: an
// operator's act. What was lost is forgotten too.
func (h *Hall) Open(ctx context.Context, name string) (n int, err error) {
	if err := (&HoldRequest{Name: name}).Check(); err != nil {
		return 0, err
	}
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	p := h.use(name, "")
	defer h.drop(p)
	holds, guards := below(p.prefix+holdPart), below(p.prefix+guardPart)
	// Both in one transaction: nobody may see a guard whose hold was taken away.
	r, err := h.settle(ctx, commit.Txn{Scope: []string{p.prefix}, Then: []clientv3.Op{deleteAll(holds), deleteAll(guards)}}, nil)
	if err != nil {
		return 0, h.lookError(ctx, err)
	}
	return int(r.Responses[0].GetResponseDeleteRange().GetDeleted()), nil
}

// Status is what stands below one name, at one revision.
type Status struct {
	Name    string
	Holders []Holder
	Rooms   []Room // of the kinds with generations, by kind
}

// A Room is one kind with generations: a double or cyclic barrier, or a latch.
type Room struct {
	Kind       Kind
	Generation int64
	Phase      string
	Parties    int // of a latch, what it counts down from
	Breaks     bool
	Counted    int      // operations of a latch
	Members    []Holder // who came, in the order in which they did
}

// StatusOf sorts the keys of one name, as a range read of keyspace.Prefix returns
// them, in the order of keys.
func StatusOf(name, prefix string, kvs []*mvccpb.KeyValue) Status {
	st := Status{Name: name}
	var v holdings
	var guards []*mvccpb.KeyValue
	for _, kind := range []Kind{Cyclic, Double, Latch} {
		if r, ok := roomOf(kind, keys{prefix + string(kind) + "/"}, kvs); ok {
			st.Rooms = append(st.Rooms, r)
		}
	}
	for _, kv := range kvs {
		switch rest := strings.TrimPrefix(string(kv.Key), prefix); {
		case strings.HasPrefix(rest, holdPart):
			v.held = append(v.held, kv)
		case strings.HasPrefix(rest, guardPart):
			guards = append(guards, kv)
		}
	}
	for _, kv := range orphans(guards, v.held) {
		v.lost = append(v.lost, recordOf(kv.Value))
	}
	st.Holders = v.holders()
	return st
}

// roomOf reads one kind; it reports false if nobody ever used it.
func roomOf(kind Kind, k keys, kvs []*mvccpb.KeyValue) (Room, bool) {
	var at *mvccpb.KeyValue
	for _, kv := range kvs {
		if string(kv.Key) == k.at() {
			at = kv
		}
	}
	if at == nil {
		return Room{}, false
	}
	s := stateOf(at)
	r := Room{Kind: kind, Generation: s.Gen, Phase: s.Phase, Parties: s.Parties, Breaks: s.Breaks}
	for _, kv := range kvs {
		switch key := string(kv.Key); {
		case strings.HasPrefix(key, k.tickets(s.Gen)):
			r.Members = append(r.Members, Holder{Record: recordOf(kv.Value), Token: kv.ModRevision << tokenShift})
		case strings.HasPrefix(key, k.counted(s.Gen)):
			r.Counted++
		}
	}
	if s.Phase == opened {
		r.Counted = s.Parties
	}
	return r, true
}

// Inside tells whether the members of a double barrier are in.
func (r *Room) Inside() bool { return r.Phase == within }

// Opened tells whether a latch is at zero.
func (r *Room) Opened() bool { return r.Phase == opened }
