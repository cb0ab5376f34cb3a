package election

import (
	"context"
	"fmt"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// ErrDetached is the cause of the end of a term here that goes on in etcd (see
// [Term.Detach]).
var ErrDetached = waitqueue.ErrDetached

// A Place is a term as a plain value of about a hundred bytes: what a resignation
// needs to know. Nothing watches it.
type Place struct{ at waitqueue.Place }

// Token returns the fencing token, 0 of the zero Place.
func (p Place) Token() core.Token { return core.Token(p.at.Token()) }

// Detach ends the term here and leaves the session the leader: the term's context
// ends with [ErrDetached], which Resign then returns too, as an error that is
// [ErrLost]. Nobody checks the leader's health any more, and nobody hears of a
// transfer or a forced resignation but by its grace. The term goes on in
// [Election.Resume] or [Election.ResumeAt], here or in another process that serves
// the session.
//
// It is idempotent. It returns [ErrLost] if the term was over before.
func (t *Term) Detach() (Place, error) {
	at, err := t.owned.Detach()
	if err != nil {
		return Place{}, named(t.name, err)
	}
	return Place{at}, nil
}

// Resume returns the term that the session leads in, whatever process of the
// session won it, after one read of etcd: so a process that restarts within the
// TTL goes on with its term. Before it ends it calls core.Session.Orphan and
// remembers lease and token; after the start it opens a session by
// core.WithLease. A token that is not 0 must be that of the term.
//
// It returns [ErrLost] if the session does not lead, and an error that is
// [ErrStaleToken] as well if it does in another term; nothing was written.
func (e *Election) Resume(ctx context.Context, token core.Token) (*Term, error) {
	if err := e.o.validate(); err != nil {
		return nil, named(e.name, err)
	}
	o, err := e.q.Resume(ctx, e.name, int64(token), ending(e.name))
	if err != nil {
		return nil, named(e.name, err)
	}
	o.MayHaveGiven()
	return e.term(o, e.o.request.Grace), nil
}

// ResumeAt is Resume for a place that is known, without asking etcd: if the session
// does not lead there any more, Resign, Proclaim and Commit find out. It returns an
// error only if the session has ended, the place is the zero one, or the election's
// name or options are outside their limits.
func (e *Election) ResumeAt(p Place) (*Term, error) {
	if err := e.o.validate(); err != nil {
		return nil, named(e.name, err)
	}
	o, err := e.q.ResumeAt(e.name, p.at, ending(e.name))
	if err != nil {
		return nil, named(e.name, fmt.Errorf("resume: %w", err))
	}
	o.MayHaveGiven()
	return e.term(o, e.o.request.Grace), nil
}
