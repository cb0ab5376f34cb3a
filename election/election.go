package election

import (
	"context"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// An Election is a name for which candidates stand. It is immutable and safe for
// concurrent use: what a campaign returns has the state.
type Election struct {
	s    *core.Session
	q    *waitqueue.Queue
	name string
	o    options
}

// New returns the election of a name. It does no I/O; a name or option outside
// its limits makes every call return core.ErrInvalid.
func New(s *core.Session, name string, opts ...Option) *Election {
	e := &Election{s: s, q: waitqueue.For(s, recipe), name: name, o: options{seats: 1}}
	e.o.request = waitqueue.Request{Names: []string{name}, Grace: defaultGrace, Apart: true, Lost: ending(name)}
	for _, opt := range opts {
		opt(&e.o)
	}
	return e
}

// request is what a candidate with a value asks for.
func (e *Election) request(value string) *waitqueue.Request {
	r := e.o.request
	r.Value, r.Rank, r.Mode = value, e.o.rank(), waitqueue.Exclusive
	if e.shared() {
		r.Mode, r.Permits, r.Limit = waitqueue.Permits, 1, e.o.seats
	}
	return &r
}

func (e *Election) shared() bool { return e.o.seats > 1 }

// Campaign stands for election and waits until it is won, in turn with all
// others. The value, at most 4,096 bytes of UTF-8, is what others see of the
// leader; it appears together with the term. Two campaigns of one session are two
// candidates.
//
// It returns an error that is ctx.Err() when ctx ends first: the place in line is
// then given up, at once or within a second if etcd is slow. Other errors are
// core.ErrSessionExpired and core.ErrSessionClosed, core.ErrKeyDeleted if an
// operator removed the place in line, core.ErrInvalid, [ErrUnhealthy],
// [ErrSeatsMismatch], or etcd's refusal. The ctx bounds only the waiting.
func (e *Election) Campaign(ctx context.Context, value string) (*Term, error) {
	return e.campaign(ctx, value, e.o.request.Grace, e.q.Acquire)
}

// TryCampaign leads at once, or returns [ErrLed] if all seats are taken or others
// stand for one: it then wrote nothing. Other errors are those of Campaign.
func (e *Election) TryCampaign(ctx context.Context, value string) (*Term, error) {
	return e.campaign(ctx, value, e.o.request.Grace, e.q.TryAcquire)
}

// An acquirer waits for a place, or tries once.
type acquirer func(context.Context, *waitqueue.Request) (*waitqueue.Owned, error)

// campaign also says how long a term that failed its check may go unresigned; a
// negative time stands for ever.
func (e *Election) campaign(ctx context.Context, value string, grace time.Duration, acquire acquirer) (*Term, error) {
	if err := e.o.validate(); err != nil {
		return nil, named(e.name, err)
	}
	if err := e.checkHealth(ctx); err != nil {
		return nil, named(e.name, err)
	}
	began := time.Now()
	o, err := acquire(ctx, e.request(value))
	if err != nil {
		return nil, named(e.name, err)
	}
	if e.o.check != nil && time.Since(began) > e.o.every { // it may have changed in line
		if err := e.checkHealth(ctx); err != nil {
			_ = o.Release()
			return nil, named(e.name, err)
		}
	}
	return e.term(o, grace), nil
}

// Leader returns who leads, or [ErrNoLeader], by one linearizable read.
func (e *Election) Leader(ctx context.Context) (Leader, error) {
	all, err := e.Leaders(ctx)
	switch {
	case err != nil:
		return Leader{}, err
	case len(all) == 0:
		return Leader{}, named(e.name, ErrNoLeader)
	}
	return all[0], nil
}

// Leaders returns all who lead, those who have led longest first: at most one,
// unless the election has several seats. It is one linearizable read.
func (e *Election) Leaders(ctx context.Context) ([]Leader, error) {
	if err := e.o.validate(); err != nil {
		return nil, named(e.name, err)
	}
	standing, revision, err := e.q.Standing(ctx, e.name, e.shared())
	if err != nil {
		return nil, named(e.name, err)
	}
	return leadersOf(standing, revision), nil
}

// Contenders returns who leads and who stands for election, the leader first and
// then in the order in which they would win. It is one linearizable read.
func (e *Election) Contenders(ctx context.Context) ([]Contender, error) {
	cs, err := e.q.Contenders(ctx, []string{e.name})
	if err != nil {
		return nil, named(e.name, err)
	}
	return contendersOf(cs), nil
}
