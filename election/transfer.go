package election

import (
	"context"
	"fmt"

	"github.com/conclavehq/conclave/core"
)

// Transfer makes the leader step down in favour of a contender, named by its
// [Contender.ID] or by its owner (of several, the first in line), and returns
// when that one leads. The leader's context ends with [ErrTransferred]; when it
// resigns, at the latest after its grace, the contender leads next, whatever its
// place and priority. If the contender is gone by then, the line goes on as
// usual. To name one who leads already does nothing. Of several leaders the one who
// has led longest steps down; [Election.TransferFrom] names another one.
//
// It returns [ErrNoLeader] and [ErrNoContender] with nothing written,
// [ErrNotTransferred] if another one leads next, and core.ErrUnknownOutcome if it
// could not wait for the end.
func (e *Election) Transfer(ctx context.Context, to string) error {
	return e.transfer(ctx, "", to)
}

// TransferFrom is [Election.Transfer] by a leader who is named by [Leader.ID] or by
// owner (of several, the one who has led longest). It returns [ErrNoLeader] if that
// one does not lead.
func (e *Election) TransferFrom(ctx context.Context, from, to string) error {
	if from == "" {
		return named(e.name, fmt.Errorf("%w: from: is empty", core.ErrInvalid))
	}
	return e.transfer(ctx, from, to)
}

func (e *Election) transfer(ctx context.Context, from, to string) error {
	if err := e.o.validate(); err != nil {
		return named(e.name, err)
	}
	return named(e.name, e.q.Transfer(ctx, e.name, from, to))
}

// ForceResign takes the leadership from whoever leads, or only from those leaders
// who are named, by [Leader.ID] or by owner: the leader's context ends with
// core.ErrRevoked and the reason (at most 256 bytes), and when it resigns, at the
// latest after its grace ([WithGrace]), the first in line leads. Who did it and why
// is in the next leader's [Leader.Before]. It returns the largest token that it
// revoked.
//
// It returns [ErrNoLeader] if nobody leads, or nobody who is named, with nothing
// written; and core.ErrUnknownOutcome if nobody knows whether the leadership
// passed on. A leader that was told steps down all the same.
func (e *Election) ForceResign(ctx context.Context, reason string, leaders ...string) (core.Token, error) {
	if err := e.o.validate(); err != nil {
		return 0, named(e.name, err)
	}
	token, err := e.q.Force(ctx, e.name, reason, leaders...)
	switch {
	case err != nil:
		return 0, named(e.name, err)
	case token == 0 && len(leaders) > 0:
		return 0, named(e.name, fmt.Errorf("%w: %q do not lead", ErrNoLeader, leaders))
	case token == 0:
		return 0, named(e.name, ErrNoLeader)
	}
	return core.Token(token), nil
}
