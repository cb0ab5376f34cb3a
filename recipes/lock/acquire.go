package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// The modes of a request.
const (
	modeWrite   = "write"
	modeRead    = "read"
	modePermits = "permits"
)

// Acquire implements the method of the LockService.
func (i *instance) Acquire(ctx context.Context, req *lockv1.AcquireRequest) (*lockv1.AcquireResponse, error) {
	w := wanted{name: req.GetName(), mode: req.GetMode(), permits: int(req.GetPermits()), limit: int(req.GetLimit()),
		purpose: req.GetPurpose(), priority: int(req.GetPriority())}
	wait, err := w.check(req.GetWait(), req.GetGrace())
	if err != nil {
		return nil, err
	}
	token, err := i.acquire(ctx, req.GetNamespace(), &w, wait)
	if err != nil {
		return nil, err
	}
	return &lockv1.AcquireResponse{Token: token, Name: w.name, Mode: w.mode, Permits: int32(w.permits)}, nil
}

// TryAcquire implements the method of the LockService.
func (i *instance) TryAcquire(ctx context.Context, req *lockv1.TryAcquireRequest) (*lockv1.TryAcquireResponse, error) {
	w := wanted{name: req.GetName(), mode: req.GetMode(), permits: int(req.GetPermits()), limit: int(req.GetLimit()),
		purpose: req.GetPurpose()}
	if _, err := w.check(nil, req.GetGrace()); err != nil {
		return nil, err
	}
	token, err := i.acquire(ctx, req.GetNamespace(), &w, 0)
	if err != nil {
		return nil, err
	}
	return &lockv1.TryAcquireResponse{Token: token, Name: w.name, Mode: w.mode, Permits: int32(w.permits)}, nil
}

// wanted is what a request wants to own.
type wanted struct {
	name, mode, purpose      string
	permits, limit, priority int
	grace                    time.Duration
}

// check fills in the defaults and reports what no library call could tell apart;
// other limits are the library's. It returns how long to wait.
func (w *wanted) check(wait, grace *durationpb.Duration) (time.Duration, error) {
	if w.mode == "" {
		w.mode = modeWrite
		if w.limit != 0 {
			w.mode = modePermits
		}
	}
	switch {
	case w.mode != modeWrite && w.mode != modeRead && w.mode != modePermits:
		return 0, service.Invalidf("mode", `%q is none of "write", "read" and "permits"`, w.mode)
	case w.mode == modePermits && w.limit == 0:
		return 0, service.Invalidf("limit", "is 0; say how many permits the name has")
	case w.mode != modePermits && w.limit != 0:
		return 0, service.Invalidf("limit", "is for the mode %q, not %q", modePermits, w.mode)
	case w.mode != modePermits && w.permits != 0:
		return 0, service.Invalidf("permits", "is for the mode %q, not %q", modePermits, w.mode)
	case w.mode == modePermits && w.permits == 0:
		w.permits = 1
	}
	var err error
	if w.grace, err = service.Duration("grace", grace, 0); err != nil {
		return 0, err
	}
	return service.Duration("wait", wait, service.Forever)
}

// acquire owns the name for the session of the call, or tells why not.
func (i *instance) acquire(ctx context.Context, namespace string, w *wanted, wait time.Duration) (int64, error) {
	if _, err := i.Named(ctx, namespace, w.name); err != nil {
		return 0, err
	}
	s, err := recipe.Session(ctx, i.Env)
	if err != nil {
		return 0, err
	}
	i.Saw(s.Namespace())
	at := service.PlaceKey{Lease: s.Lease(), Name: w.name}
	i.places.Enter(at)
	defer i.places.Leave(at)
	waiting, done := i.Waiting(ctx, wait)
	defer done()
	h, err := w.acquire(waiting, s, wait == 0)
	if errors.Is(err, service.ErrWaited) {
		err = i.stillLocked(ctx, s, w.name, wait)
	}
	if err != nil {
		return 0, status(err)
	}
	if ctx.Err() != nil && !i.Stopping() && i.places.Only(at, h.Token()) {
		_ = letGo(s, w.name, h) // the caller went away, and was told that it has nothing
		return 0, status(ctx.Err())
	}
	i.places.Put(at, h)
	return int64(h.Token()), nil
}

// owned is what the library's acquisitions have in common.
type owned = service.Owned[lock.Place]

// A held is a lock with the verb of a permit.
type held struct{ *lock.Held }

func (h held) Release() error { return h.Unlock() }

func locked(h *lock.Held, err error) (owned, error) {
	if err != nil {
		return nil, err
	}
	return held{h}, nil
}

func permitted(p *lock.Permit, err error) (owned, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// options are what was asked for: most requests ask for nothing, and each option
// costs an object.
func (w *wanted) options() []lock.Option {
	opts := []lock.Option{lock.WithOnePerSession()}
	if w.purpose != "" {
		opts = append(opts, lock.WithPurpose(w.purpose))
	}
	if w.grace != 0 {
		opts = append(opts, lock.WithGrace(w.grace))
	}
	if w.priority != 0 {
		opts = append(opts, lock.WithPriority(w.priority))
	}
	return opts
}

// acquire calls the library. With only it does not wait.
func (w *wanted) acquire(ctx context.Context, s *core.Session, only bool) (owned, error) {
	opts := w.options()
	if w.mode == modePermits {
		sem := lock.NewSemaphore(s, w.name, w.limit, opts...)
		if only {
			return permitted(sem.TryAcquire(ctx, w.permits))
		}
		return permitted(sem.Acquire(ctx, w.permits))
	}
	if w.mode == modeRead {
		m := lock.NewRWMutex(s, w.name, opts...)
		if only {
			return locked(m.TryRLock(ctx))
		}
		return locked(m.RLock(ctx))
	}
	m := lock.NewMutex(s, w.name, opts...) // on one name, an RWMutex that only writes
	if only {
		return locked(m.TryLock(ctx))
	}
	return locked(m.Lock(ctx))
}

// askHolder bounds the question who held the name when a wait was over.
const askHolder = 2 * time.Second

// stillLocked is the error of a wait that took as long as it may, with the owner
// in it.
func (i *instance) stillLocked(ctx context.Context, s *core.Session, name string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, askHolder)
	defer cancel()
	contenders, err := lock.NewMutex(s, name).Contenders(ctx)
	if err == nil {
		for _, c := range contenders {
			if c.Holds {
				return fmt.Errorf("lock %q: %w: held by %s, after %v", name, lock.ErrLocked, c.Owner, wait)
			}
		}
	}
	return fmt.Errorf("lock %q: %w, after %v", name, lock.ErrLocked, wait)
}
