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

// forever stands for a wait until the call's deadline.
const forever = time.Duration(-1)

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
		return 0, invalidf("mode", `%q is none of "write", "read" and "permits"`, w.mode)
	case w.mode == modePermits && w.limit == 0:
		return 0, invalidf("limit", "is 0; say how many permits the name has")
	case w.mode != modePermits && w.limit != 0:
		return 0, invalidf("limit", "is for the mode %q, not %q", modePermits, w.mode)
	case w.mode != modePermits && w.permits != 0:
		return 0, invalidf("permits", "is for the mode %q, not %q", modePermits, w.mode)
	case w.mode == modePermits && w.permits == 0:
		w.permits = 1
	}
	var err error
	if w.grace, err = duration("grace", grace, 0); err != nil {
		return 0, err
	}
	return duration("wait", wait, forever)
}

// duration reads a duration that may be absent.
func duration(field string, d *durationpb.Duration, absent time.Duration) (time.Duration, error) {
	if d == nil {
		return absent, nil
	}
	if d.CheckValid() != nil || d.AsDuration() < 0 {
		return 0, invalidf(field, "is negative or too long")
	}
	return d.AsDuration(), nil
}

// acquire owns the name for the session of the call, or tells why not.
func (i *instance) acquire(ctx context.Context, namespace string, w *wanted, wait time.Duration) (int64, error) {
	if _, err := i.named(ctx, namespace, w.name); err != nil {
		return 0, err
	}
	s, err := recipe.Session(ctx, i.env)
	if err != nil {
		return 0, err
	}
	i.saw(s.Namespace())
	at := placeKey{s.Lease(), w.name}
	i.places.enter(at)
	defer i.places.leave(at)
	waiting, done := i.waiting(ctx, wait)
	defer done()
	h, err := w.acquire(waiting, s, wait == 0)
	if errors.Is(err, errWaited) {
		err = i.stillLocked(ctx, s, w.name, wait)
	}
	if err != nil {
		return 0, status(err)
	}
	if ctx.Err() != nil && i.ctx.Err() == nil && i.places.only(at, h.Token()) {
		_ = letGo(s, w.name, h) // the caller went away, and was told that it has nothing
		return 0, status(ctx.Err())
	}
	i.places.put(at, h)
	return int64(h.Token()), nil
}

// errWaited is the cause of the end of a wait that took as long as it may.
var errWaited = errors.New("waited long enough")

// waiting returns the context of a wait. It ends with ctx and after the wait's
// own time. If it is the host that ends the call, and not the caller, the place
// in line stays for the next host, which core.ErrSessionClosed stands for.
func (i *instance) waiting(ctx context.Context, wait time.Duration) (context.Context, func()) {
	waiting, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stops := []func() bool{
		context.AfterFunc(i.ctx, func() { cancel(core.ErrSessionClosed) }),
		context.AfterFunc(ctx, func() {
			cause := context.Cause(ctx)
			if !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
				cause = core.ErrSessionClosed
			}
			cancel(cause)
		}),
	}
	if wait > 0 {
		stops = append(stops, time.AfterFunc(wait, func() { cancel(errWaited) }).Stop)
	}
	return waiting, func() {
		for _, stop := range stops {
			stop()
		}
		cancel(nil)
	}
}

// An owned is what the library's acquisitions have in common.
type owned interface {
	Token() core.Token
	Detach() (lock.Place, error)
	Release() error
}

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

// acquire calls the library. With only it does not wait.
func (w *wanted) acquire(ctx context.Context, s *core.Session, only bool) (owned, error) {
	opts := []lock.Option{lock.WithOnePerSession(), lock.WithPurpose(w.purpose), lock.WithGrace(w.grace), lock.WithPriority(w.priority)}
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
