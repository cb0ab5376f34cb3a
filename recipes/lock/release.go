package lock

import (
	"context"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/lock"
)

// Release implements the method of the LockService.
func (i *instance) Release(ctx context.Context, req *lockv1.ReleaseRequest) (*lockv1.ReleaseResponse, error) {
	if _, err := i.named(ctx, req.GetNamespace(), req.GetName()); err != nil {
		return nil, err
	}
	token := core.Token(req.GetToken())
	if token <= 0 {
		return nil, invalidf("token", "%d is none; it is what Acquire returned", token)
	}
	s, err := recipe.Session(ctx, i.env)
	if err != nil {
		return nil, err
	}
	h, err := i.resume(ctx, s, req.GetName(), token)
	if err != nil {
		return nil, status(err)
	}
	if err := h.Unlock(); err != nil {
		return nil, status(err)
	}
	return &lockv1.ReleaseResponse{}, nil
}

// resume returns the session's ownership, without a read if it was acquired here.
func (i *instance) resume(ctx context.Context, s *core.Session, name string, token core.Token) (*lock.Held, error) {
	if place, ok := i.places.take(placeKey{s.Lease(), name}, token); ok {
		return lock.ResumeAt(s, name, place)
	}
	return lock.Resume(ctx, s, name, token)
}
