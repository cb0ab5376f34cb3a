package barrier

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

const (
	// tryFor bounds a wait that is to be only a look, where one read does not tell.
	tryFor = time.Second
	// writeBudget bounds a write that nobody's session makes. A leader's election
	// takes about a second and a half, and it is better to find out what became of
	// the write.
	writeBudget = 10 * time.Second
	// lentTo is the label of the session under which such a write is made.
	lentTo = "barrier-recipe"
)

// A nameRequest is about one name.
type nameRequest interface {
	GetNamespace() string
	GetName() string
}

// A waitRequest may wait.
type waitRequest interface {
	nameRequest
	GetWait() *durationpb.Duration
}

// An ownerRequest is about what the caller has.
type ownerRequest interface {
	nameRequest
	GetToken() int64
}

// bound returns how long a call waits for others: a look takes a moment.
func bound(req waitRequest) (time.Duration, error) {
	wait, err := service.Duration("wait", req.GetWait(), service.Forever)
	if wait == 0 {
		wait = tryFor
	}
	return wait, err
}

// looks tells whether a request asks how it is, and not to wait.
func looks(req waitRequest) bool { return req.GetWait() != nil && req.GetWait().AsDuration() == 0 }

// party returns the session of the caller.
func (i *instance) party(ctx context.Context, req nameRequest) (*core.Session, error) {
	if _, err := i.Named(ctx, req.GetNamespace(), req.GetName()); err != nil {
		return nil, err
	}
	return recipe.Session(ctx, i.Env)
}

// owner returns the caller's token and session; from is the method that told the
// token.
func (i *instance) owner(ctx context.Context, req ownerRequest, from string) (core.Token, *core.Session, error) {
	s, err := i.party(ctx, req)
	if err != nil {
		return 0, nil, err
	}
	if req.GetToken() <= 0 {
		return 0, nil, service.Invalidf("token", "%d is none; it is what %s returned", req.GetToken(), from)
	}
	return core.Token(req.GetToken()), s, nil
}

// lend returns a session for what does not belong to the caller's.
func (i *instance) lend(ctx context.Context, req nameRequest) (*core.Session, error) {
	space, err := i.Named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return nil, err
	}
	return i.Lend(ctx, lentTo, space.Namespace())
}

// watcher returns how long to wait, and a lent session for it.
func (i *instance) watcher(ctx context.Context, req waitRequest) (time.Duration, *core.Session, error) {
	wait, err := bound(req)
	if err != nil {
		return 0, nil, err
	}
	s, err := i.lend(ctx, req)
	return wait, s, err
}

// writing writes within a budget. What is not answered by then may have been
// written.
func writing[T any](ctx context.Context, write func(ctx context.Context) (T, error)) (T, error) {
	within, cancel := context.WithTimeout(ctx, writeBudget)
	defer cancel()
	answer, err := write(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = errors.Join(core.ErrUnknownOutcome, err)
	}
	return answer, err
}
