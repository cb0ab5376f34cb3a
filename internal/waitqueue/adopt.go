package waitqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrOtherwise says that the session owns the name in another mode or number, or
// waits for it otherwise.
var ErrOtherwise = errors.New("the session owns the name otherwise, or waits for it otherwise")

var (
	// errChanged says that what stood of the lease's is not there any more.
	errChanged = errors.New("changed meanwhile")
	// errTaken says that another host took the acquisition up.
	errTaken = errors.New("taken up by another host")
)

// A voidValue is the value of a void record. Whoever wrote it last is the one
// who may give up what the acquisition has: a host that takes up the ticket or
// the ownership of another one writes it, and the other one leaves both alone.
type voidValue struct {
	V   int    `json:"v"`
	By  string `json:"by"` // never used again; of an owner that failed its own check who and why
	Why string `json:"why"`
}

// Why a void record stands, if not because of an unknown outcome.
const (
	whyTaken     = "taken"     // by another call of the session
	whyWithdrawn = "withdrawn" // another call of the session wants the name otherwise
	whyOver      = "over"      // its host gave it up
)

func (q *Queue) voidValue(why string) string {
	return mustJSON(voidValue{V: recordVersion, By: q.e.NewID(), Why: why})
}

// responsible holds as long as nobody took a up.
func (a *acquisition) responsible() clientv3.Cmp {
	return unmodified(a.parts[0].n.void(a.id), a.adopted)
}

// another is the acquisition with an id that a takes up.
func (a *acquisition) another(id string) *acquisition {
	return a.q.acquisitionOf(id, a.req, []*name{a.q.use(a.req.Names[0])})
}

// goOn goes on where the lease stands already. It returns the acquisition that
// goes on, which may be a itself, and its tenure or the error with which it ends.
func (a *acquisition) goOn(ctx context.Context, own belongings, only bool) (*acquisition, *tenure, error) {
	if own.grant != nil {
		return a.goOnOwning(ctx, own)
	}
	for _, ticket := range own.tickets {
		r := ticketRecord(valueOf(ticket))
		same := ticket.Version == waiting && string(ticket.Key) == a.parts[0].n.ticket(a.bucket(), r.ID) && a.like(r, own)
		if !same {
			if err := a.withdrawOther(ctx, own, ticket, r.ID); err != nil {
				return a, nil, err
			}
			continue
		}
		return a.goOnWaiting(ctx, own, ticket, r.ID, only)
	}
	return a, nil, errChanged
}

// like tells whether a record is of the kind that a asks for.
func (a *acquisition) like(r Record, own belongings) bool {
	return r.Mode == a.req.Mode && r.Permits == a.req.Permits && (a.req.Mode != Permits || own.limit == a.req.Limit)
}

// goOnOwning answers with the ownership that the lease has.
func (a *acquisition) goOnOwning(ctx context.Context, own belongings) (*acquisition, *tenure, error) {
	r := recordOf(own.grant)
	if r.Mode == a.req.Mode && r.Permits == a.req.Permits && r.Mode == Permits && own.limit != a.req.Limit {
		return a, nil, fmt.Errorf("%w: in use with limit %d, not %d", ErrLimitMismatch, own.limit, a.req.Limit)
	}
	if !a.like(r, own) {
		return a, nil, ErrOtherwise
	}
	b := a.another(r.ID)
	b.told = true
	b.gave = a.req.Apart // perhaps: who leads may have given another value
	// It may have waited elsewhere than it would now.
	b.parts[0].ticket = b.parts[0].n.ticket(rankedBucket(r.Priority, r.Rank), r.ID)
	if err := b.findTicket(ctx, &own); err != nil {
		b.forget()
		return a, nil, err
	}
	// What this host acquired, nobody here is about to give up: it is one flight
	// after the other.
	if !strings.HasPrefix(r.ID, a.q.e.IDPrefix()) || a.uncertain {
		if _, err := a.takeUp(b, own, own.grant); err != nil {
			b.forget()
			return a, nil, err
		}
	}
	a.forget()
	t := b.tenureFound(own)
	return b, t, nil
}

// tenureFound is the tenure of an ownership as it was read.
func (a *acquisition) tenureFound(own belongings) *tenure {
	if ticket := own.ticketOf(own.grant); ticket != nil {
		a.parts[0].ticket = string(ticket.Key)
		return a.tenureOf(ticket)
	}
	t := &tenure{a: a, rev: own.grant.ModRevision, since: time.Now()}
	// A ticket of another bucket than those that were read.
	r := recordOf(own.grant)
	t.inLine = r.Priority != 0 || r.Rank != 0
	return t
}

// goOnWaiting waits with the ticket that the lease has in line. With only, it
// owns at once or gives the place up: who tries does not wait, and nobody else
// would look after the ticket.
func (a *acquisition) goOnWaiting(ctx context.Context, own belongings, ticket *mvccpb.KeyValue, id string, only bool) (*acquisition, *tenure, error) {
	b := a.another(id)
	b.parts[0].create, b.told = ticket.CreateRevision, true
	b.parts[0].n.expect(b, b.parts[0].ticket)
	err := b.watchAll(ctx) // before the ticket is read for the last time, as before it is put
	if err == nil {
		ticket, err = a.takeUp(b, own, ticket)
	}
	if err != nil {
		b.forget()
		return a, nil, err
	}
	a.forget()
	if t := b.standing(ticket); t != nil {
		return b, t, nil
	}
	if !only {
		t, err := b.waitInLine(ctx)
		return b, t, err
	}
	w := waiter{a: b, timer: time.NewTimer(b.q.e.TTL())}
	defer w.stop()
	t, _, err := w.lookOnce(ctx)
	if t == nil && err == nil {
		err = &HeldError{Name: a.req.Names[0]}
	}
	return b, t, err
}

// takeUp makes b, of which stands is the ticket or the grant, this host's: from
// then on nobody else gives it up. It returns b's ticket, if b has one. If a may
// have left something, it ends with the same request. It does not end with the
// caller's patience: what is taken up has to be given up again.
func (a *acquisition) takeUp(b *acquisition, own belongings, stands *mvccpb.KeyValue) (*mvccpb.KeyValue, error) {
	p, value := &b.parts[0], a.q.voidValue(whyTaken)
	then := []clientv3.Op{clientv3.OpGet(p.ticket), clientv3.OpPut(p.n.void(b.id), value, b.lease())}
	if a.uncertain && a.id != b.id {
		then = append(then, a.putVoid())
	}
	cmps := []clientv3.Cmp{unmodified(string(stands.Key), stands.ModRevision), unmodified(p.n.void(b.id), own.void(b.id))}
	r, err := a.q.settle(a.q.e.Context(), a.movingHome(a.txn(cmps, then, a.readOwn())))
	if err != nil {
		return nil, err
	}
	if r.Succeeded {
		if a.q.home != nil {
			a.q.home.wrote(r.Revision)
		}
		b.adopted, a.uncertain = r.Revision, false
		return kv(r, 0), nil
	}
	now := a.q.belongings(p.n.keys, r.Responses)
	record := now.voids[b.id]
	if record == nil || string(record.Value) != value { // else an earlier request did it
		return nil, errChanged
	}
	b.adopted, a.uncertain = record.ModRevision, false
	for _, ticket := range now.tickets {
		if string(ticket.Key) == p.ticket {
			return ticket, nil
		}
	}
	if now.grant == nil || now.grant.ModRevision != stands.ModRevision {
		return nil, errChanged
	}
	return nil, nil
}

// withdrawOther takes a ticket of the lease out of the line that is not like a's,
// or whose grant is gone. Who waits with it at another host is told why.
func (a *acquisition) withdrawOther(ctx context.Context, own belongings, ticket *mvccpb.KeyValue, id string) error {
	n := a.parts[0].n
	cmps := []clientv3.Cmp{unmodified(string(ticket.Key), ticket.ModRevision), unmodified(n.void(id), own.void(id))}
	_, err := a.q.settle(ctx, a.txn(cmps, []clientv3.Op{clientv3.OpDelete(string(ticket.Key)),
		clientv3.OpPut(n.void(id), a.q.voidValue(whyWithdrawn), a.lease())}, nil))
	return err
}

// whyGone returns why a's ticket is gone: because another host has taken a up,
// or for the reason that is known already.
func (a *acquisition) whyGone(ctx context.Context, known error) error {
	resp, err := a.q.e.Client().Get(ctx, a.parts[0].n.void(a.id))
	if err == nil && len(resp.Kvs) > 0 && resp.Kvs[0].ModRevision != a.adopted {
		var v voidValue
		_ = json.Unmarshal(resp.Kvs[0].Value, &v) // an unreadable one says nothing
		switch v.Why {
		case whyTaken:
			return errTaken
		case whyWithdrawn:
			return ErrOtherwise
		}
	}
	return known
}

// giveUp ends a tenure that no caller of this host was told of. If another host
// may have told one, the session keeps it: a caller who asks two hosts and goes
// by the first answer must not lose what it was given.
func (t *tenure) giveUp(ctx context.Context) {
	if !t.a.told {
		t.letGo(ctx)
		return
	}
	t.finish()
	t.a.forget()
}

// isGivenUp tells whether the pass is of an ownership that no caller was told
// of, and that another host may take up for the lease: then it is not passed.
func (p *pass) isGivenUp() bool { return p.owner == nil && p.force == nil && p.t.a.req.OnePerLease }
