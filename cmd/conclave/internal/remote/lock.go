package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/ownership"
)

// tokenShift is where a token has its revision: above the index of the grant in
// its transaction.
const tokenShift = 16

// restarting is how long after a host was lost its recipes may take to be there again.
const restarting = 10 * time.Second

// A Held is a lock that a session holds, from its acquisition to its end.
type Held struct {
	s     *Session
	name  string
	token int64
	ctx   *ownership.Context

	stop context.CancelFunc
	done chan struct{} // closed when nobody follows the name any more
}

// Acquire waits for a lock until ctx or the session ends. The request's session
// and namespace are filled in; its wait counts from now, whichever hosts are asked
// meanwhile. When a host goes, the place in line is kept at the next one.
func (s *Session) Acquire(ctx context.Context, req *lockv1.AcquireRequest) (*Held, error) {
	req = proto.CloneOf(req)
	req.SessionId, req.Namespace = s.id, s.cfg.Namespace
	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.ctx.Inner(), func() { cancel(context.Cause(s.ctx.Inner())) })
	defer stop()
	resp, err := s.acquire(asking, req)
	if err != nil {
		if cause := s.ctx.Check(); cause != nil {
			err = cause
		}
		return nil, err
	}
	h := &Held{s: s, name: req.GetName(), token: resp.GetToken(), done: make(chan struct{})}
	h.ctx = ownership.NewContext(ctx, s.lapsed)
	h.ctx.Owns(h.token, h)
	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stopFollowing
	go h.follow(following)
	return h, nil
}

// acquire asks one host after the other.
func (s *Session) acquire(ctx context.Context, req *lockv1.AcquireRequest) (*lockv1.AcquireResponse, error) {
	began, wait, waits := clock.Now(), req.GetWait().AsDuration(), req.GetWait() != nil
	var lost clock.Stamp // when a host was
	for {
		if waits {
			req.Wait = durationpb.New(max(0, wait-clock.Since(began)))
		}
		var resp *lockv1.AcquireResponse
		err := s.client.Do(ctx, func(cc grpc.ClientConnInterface) (err error) {
			resp, err = lockv1.NewLockServiceClient(cc).Acquire(ctx, req)
			return err
		})
		if err == nil {
			return resp, nil
		}
		if !starting(err) {
			lost = clock.Now()
		} else if clock.Since(lost) > restarting {
			return nil, err
		}
		if ctx.Err() != nil || !passes(err) || !pause(ctx, retryPause) {
			return nil, err
		}
	}
}

// Context ends when the lock is not held any more, at the latest when etcd could
// give it to another. Its cause is one of core's: ErrReleased, ErrSessionExpired,
// ErrSessionClosed, ErrRevoked, ErrKeyDeleted.
func (h *Held) Context() context.Context { return h.ctx }

// Token returns the fencing token.
func (h *Held) Token() core.Token { return core.Token(h.token) }

// Release lets the lock go. The ctx bounds the asking. It returns nil also if the
// lock was lost before: it is not held afterwards, and Context said so.
func (h *Held) Release(ctx context.Context) error {
	h.ctx.End(core.ErrReleased)
	h.stop()
	<-h.done
	left := h.s.Remaining()
	if left <= 0 {
		return nil // it ended with the session
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	for {
		err := h.s.client.Do(ctx, func(cc grpc.ClientConnInterface) error {
			_, err := lockv1.NewLockServiceClient(cc).Release(ctx, &lockv1.ReleaseRequest{
				SessionId: h.s.id, Namespace: h.s.cfg.Namespace, Name: h.name, Token: h.token,
			})
			return err
		})
		switch reason := recipe.Reason(err); {
		case reason == "not_owner", reason == "session_expired":
			return nil
		case err == nil, !passes(err), !pause(ctx, retryPause):
			return err
		}
	}
}

// follow ends the ownership when its session ends, or when a host says that
// somebody else took the name.
func (h *Held) follow(ctx context.Context) {
	defer close(h.done)
	stop := context.AfterFunc(h.s.ctx.Inner(), func() { h.ctx.End(context.Cause(h.s.ctx.Inner())) })
	defer stop()
	wait := time.Duration(0)
	for h.ctx.Check() == nil && pause(ctx, wait) {
		conn := h.s.client.conn()
		err := h.watch(ctx, lockv1.NewLockServiceClient(conn))
		if ctx.Err() != nil {
			return
		}
		if cause, ok := errors.AsType[lossError](err); ok {
			h.ctx.End(cause.error)
			return
		}
		if status.Code(err) == codes.PermissionDenied {
			// Who may not look learns of a loss when the session ends.
			select {
			case <-ctx.Done():
			case <-h.ctx.Inner().Done():
			}
			return
		}
		wait = retryPause
	}
}

// A lossError ends a watch because the ownership it is for was lost.
type lossError struct{ error }

// watch follows the name at one host until the ownership is lost or the host is.
func (h *Held) watch(ctx context.Context, at lockv1.LockServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := at.Watch(ctx, &lockv1.WatchRequest{Namespace: h.s.cfg.Namespace, Name: h.name})
	if err != nil {
		return err
	}
	var state *lockv1.Lock
	for complete := true; ; {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		if resp.GetInitial() && complete {
			state = nil // what is not told again is not so any more
		}
		for _, l := range resp.GetLocks() {
			if l.GetName() == h.name {
				state = l
			}
		}
		complete = !resp.GetMore()
		if !complete || resp.GetRevision() < h.grantedAt() {
			continue
		}
		if cause := h.lostIn(state); cause != nil {
			return lossError{cause}
		}
	}
}

// grantedAt is the revision of the ownership. A state from before it, which a host
// that lags may tell, says nothing about it.
func (h *Held) grantedAt() int64 { return h.token >> tokenShift }

// lostIn returns why the ownership is over if the lock's state says so.
func (h *Held) lostIn(l *lockv1.Lock) error {
	for _, holder := range l.GetHolders() {
		if holder.GetToken() != h.token {
			continue
		}
		if r := holder.GetRevocation(); r != nil {
			return fmt.Errorf("lock %q: %w: by %s: %s", h.name, core.ErrRevoked, r.GetBy(), r.GetReason())
		}
		return nil
	}
	if int(l.GetHolderCount()) > len(l.GetHolders()) {
		return nil // not all are shown
	}
	return fmt.Errorf("lock %q: somebody else took it, or deleted its key: %w", h.name, core.ErrKeyDeleted)
}
