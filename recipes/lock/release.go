package lock

import (
	"context"
	"errors"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// Release implements the method of the LockService.
func (i *instance) Release(ctx context.Context, req *lockv1.ReleaseRequest) (*lockv1.ReleaseResponse, error) {
	if _, err := i.Named(ctx, req.GetNamespace(), req.GetName()); err != nil {
		return nil, err
	}
	token := core.Token(req.GetToken())
	if token <= 0 {
		return nil, service.Invalidf("token", "%d is none; it is what Acquire returned", token)
	}
	s, err := recipe.Session(ctx, i.Env)
	if err != nil {
		return nil, err
	}
	if err := i.release(ctx, s, req.GetName(), token); err != nil {
		return nil, service.OwnerStatus(err, lock.ErrLost, "own", req.GetName(), status)
	}
	return &lockv1.ReleaseResponse{}, nil
}

// release ends the session's ownership, without a read if it was acquired here.
func (i *instance) release(ctx context.Context, s *core.Session, name string, token core.Token) error {
	held, place := i.places.Take(service.PlaceKey{Lease: s.Lease(), Name: name}, token)
	switch {
	case held != nil:
		return letGo(s, name, held)
	case place.Token() != 0:
		return releaseAt(s, name, place)
	}
	h, err := service.Bounded(ctx, func(ctx context.Context) (*lock.Held, error) { return lock.Resume(ctx, s, name, token) })
	if err != nil {
		return err
	}
	return h.Unlock()
}

// letGo releases an ownership as the library made it, which may have become a
// plain value meanwhile.
func letGo(s *core.Session, name string, held service.Owned[lock.Place]) error {
	err := held.Release()
	if !errors.Is(err, lock.ErrDetached) {
		return err
	}
	place, err := held.Detach()
	if err != nil {
		return err
	}
	return releaseAt(s, name, place)
}

func releaseAt(s *core.Session, name string, place lock.Place) error {
	h, err := lock.ResumeAt(s, name, place)
	if err != nil {
		return err
	}
	return h.Unlock()
}
