package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// The limits of a request.
const (
	MaxParties   = 10_000
	MaxCount     = 10_000
	MaxPurpose   = 256 // bytes
	MaxOperation = 255 // bytes
)

// errAgain says that an arrival is to come to the next generation.
var errAgain = errors.New("come again")

// errTicketGone says that the ticket was deleted by hand.
var errTicketGone = fmt.Errorf("ticket: %w", core.ErrKeyDeleted)

// errUnreadable says that somebody else wrote a state key.
var errUnreadable = errors.New("the state cannot be read")

// Errors that a member's wait ends with.
var (
	ErrFull     = errors.New("all parties are there")
	ErrMismatch = errors.New("in use with another number")
)

// A BrokenError says that a generation was broken by the loss of a member, or a
// barrier by that of a holder.
type BrokenError struct{ Owner string }

// Error names who was lost.
func (e *BrokenError) Error() string { return fmt.Sprintf("%s was lost", e.Owner) }

// A Request says what to come to, and how.
type Request struct {
	Name        string
	Kind        Kind // Double or Cyclic
	Parties     int
	Breaks      bool
	Purpose     string
	OnePerLease bool   // the session is one party, whichever host serves it
	Operation   string // with OnePerLease: what a repeated call has in common with the first
	// Lost makes the library's error of the cause of a lost ownership.
	Lost func(cause error) error
}

// Check returns an error that is core.ErrInvalid and names the field.
func (r *Request) Check() error {
	err := errors.Join(keyspace.CheckName("name", r.Name), keyspace.CheckText("purpose", r.Purpose, MaxPurpose),
		keyspace.CheckText("operation", r.Operation, MaxOperation))
	if r.Parties < 1 || r.Parties > MaxParties {
		err = errors.Join(err, fmt.Errorf("parties: %d is outside 1 to %d", r.Parties, MaxParties))
	}
	if r.Operation != "" && !r.OnePerLease {
		err = errors.Join(err, errors.New("operation: is for one place per session"))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	return nil
}

// An arrival is one Enter or Await, from the first request to its end.
type arrival struct {
	h      *Hall
	p      *place
	req    *Request
	id     string
	record string
	void   int64 // the void record's revision that its requests expect; 0: none

	gen     int64 // that it came to; 0 as long as nothing was sent
	create  int64 // of its ticket, 0 if no reply told it
	unknown bool  // a Join of unknown outcome exists
	put     bool  // a Join may have put the ticket
}

// one is the unique part of the id of a session that has one place.
const one = "one"

func (h *Hall) newArrival(r *Request) *arrival {
	a := &arrival{h: h, p: h.use(r.Name, r.Kind), req: r, id: h.e.NewID()}
	if r.OnePerLease {
		a.id = leasePart(h.e) + one
	}
	rec := h.record
	rec.ID, rec.Purpose, rec.Since = a.id, r.Purpose, time.Now().UTC()
	a.record = mustJSON(rec)
	return a
}

func (a *arrival) ticket() string { return a.p.tickets(a.gen) + a.id }
func (a *arrival) party() string  { return a.p.parties(a.gen) + a.id }

// verdict is what a member concludes from the state about its generation.
type verdict int

const (
	waits   verdict = iota
	entered         // it is on the list
	extra           // the list is without it
	broke           // the generation was broken
	unclear         // the state does not know the generation any more
	removed         // there is no state, or an earlier one: somebody deleted it
)

func (a *arrival) judge(s state) (verdict, ended) {
	on := func(e ended) (verdict, ended) {
		switch {
		case e.Broken:
			return broke, e
		case listed(e.Members, a.id):
			return entered, e
		}
		return extra, e
	}
	switch {
	case s.rev == 0 || s.Gen < a.gen:
		return removed, ended{}
	case s.Gen == a.gen && s.Phase == within:
		return on(ended{Gen: s.Gen, Members: s.Members})
	case s.Gen == a.gen:
		return waits, ended{}
	}
	if e, ok := a.p.recall(s, a.gen); ok {
		return on(e)
	}
	return unclear, ended{}
}

// A passed is a generation that an arrival was a member of.
type passed struct {
	gen    int64
	create int64 // of its ticket, if it is known
}

// Arrive comes to a generation and waits until it is complete. The member's
// ticket then stands; that of a cyclic barrier is gone.
func (h *Hall) Arrive(ctx context.Context, r *Request) (gen int64, m *Member, err error) {
	if err := r.Check(); err != nil {
		return 0, nil, err
	}
	call, done, err := h.begin(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer done()
	a := h.newArrival(r)
	p, err := a.arrive(call)
	if err != nil {
		h.drop(a.p)
		return 0, nil, err
	}
	if r.Kind == Cyclic {
		h.drop(a.p)
		return p.gen, nil, nil
	}
	m, err = a.member(ctx, call, p)
	h.drop(a.p)
	return p.gen, m, err
}

// arrive waits for the generation, and takes the ticket back if the wait ends
// without it.
func (a *arrival) arrive(ctx context.Context) (passed, error) {
	if a.req.OnePerLease {
		a.p.share(a.id)
	}
	p, err := a.come(ctx)
	last := !a.req.OnePerLease || a.p.unshare(a.id)
	if err == nil {
		return p, nil
	}
	return a.conclude(ctx, err, last)
}

// come goes through the states of an arrival until it is a member.
func (a *arrival) come(ctx context.Context) (passed, error) {
	if a.req.OnePerLease {
		if p, ok, err := a.takeUp(ctx); ok || err != nil {
			return p, err
		}
	}
	for {
		if a.gen == 0 {
			if err := a.joinNext(ctx); err != nil {
				return passed{}, err
			}
		}
		p, err := a.wait(ctx)
		if !errors.Is(err, errAgain) {
			return p, err
		}
		a.anew()
	}
}

// anew forgets a generation that the arrival was no member of. What is on its way
// there names a revision that is past.
func (a *arrival) anew() { a.gen, a.create, a.unknown, a.put = 0, 0, false, false }

// joinNext puts the ticket into the generation that gathers.
func (a *arrival) joinNext(ctx context.Context) error {
	for a.gen == 0 {
		var s state
		err := a.h.patiently(ctx, func(ctx context.Context) (err error) {
			if s, err = a.p.board.get(ctx); err == nil && s.rev != 0 && s.Gen < 1 {
				s, err = a.p.board.fresh(ctx) // it may be known better than that
			}
			return err
		})
		if err != nil {
			return err
		}
		switch {
		case s.rev != 0 && s.Gen < 1:
			err = fmt.Errorf("%s: %w", a.p.at(), errUnreadable)
		case s.rev == 0 || s.Phase == gathering && (s.Parties != a.req.Parties || s.Breaks != a.breaks()):
			err = a.begins(ctx, s)
		case s.Phase == within:
			err = a.endOver(ctx, s)
		default:
			err = a.join(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *arrival) breaks() bool { return a.req.Breaks || a.req.Kind == Cyclic }

// theOldest reads the n oldest tickets of a generation.
func (a *arrival) theOldest(g int64) clientv3.Op {
	return get(below(a.p.tickets(g)), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend), clientv3.WithLimit(int64(a.req.Parties)))
}

func idsOf(kvs []*mvccpb.KeyValue) []string {
	ids := make([]string, len(kvs))
	for i, kv := range kvs {
		ids[i] = idOf(kv.Key)
	}
	return ids
}
