package remote

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/ownership"
)

// tokenShift is where a token has its revision: above the index of the grant in
// its transaction.
const tokenShift = 16

// A claim is what a recipe is asked for and about. Its calls go to the host at cc.
type claim interface {
	// acquire waits for the ownership and returns its token. Nil waits until ctx ends.
	acquire(ctx context.Context, cc grpc.ClientConnInterface, wait *durationpb.Duration) (token int64, err error)
	// release lets the ownership with this token go.
	release(ctx context.Context, cc grpc.ClientConnInterface, token int64) error
	// watch follows the name: each call of next is one message.
	watch(ctx context.Context, cc grpc.ClientConnInterface) (next func() (news, error), err error)
	// gone is the cause of an ownership's end that nobody gave a reason for.
	gone() error
}

// news is one message of a watch.
type news struct {
	revision      int64
	initial, more bool
	state         *standing // nil: it says nothing about the name
}

// standing is who owns a name.
type standing struct {
	owners []owner
	count  int // of all, also those that are not shown
}

// An owner is one of those who own a name.
type owner struct {
	token int64
	ends  error // why it has to let the name go, nil if it has not
}

// A Held is what a session owns, from its acquisition to its end.
type Held struct {
	s     *Session
	claim claim
	token int64
	ctx   *ownership.Context

	stop context.CancelFunc
	done chan struct{} // closed when nobody follows the name any more
}

// own waits for an ownership until ctx or the session ends. The wait counts from
// now, whichever hosts are asked meanwhile. When a host goes, the place in line is
// kept at the next one.
func (s *Session) own(ctx context.Context, c claim, wait *durationpb.Duration) (*Held, error) {
	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.ctx.Inner(), func() { cancel(context.Cause(s.ctx.Inner())) })
	defer stop()
	token, err := s.acquire(asking, c, wait)
	if err != nil {
		if cause := s.ctx.Check(); cause != nil {
			err = cause
		}
		return nil, err
	}
	h := &Held{s: s, claim: c, token: token, done: make(chan struct{})}
	h.ctx = ownership.NewContext(ctx, s.lapsed)
	h.ctx.Owns(h.token, h)
	following, stopFollowing := context.WithCancel(context.WithoutCancel(ctx))
	h.stop = stopFollowing
	go h.follow(following)
	return h, nil
}

// acquire asks one host after the other.
func (s *Session) acquire(ctx context.Context, c claim, wait *durationpb.Duration) (token int64, err error) {
	err = s.client.Wait(ctx, wait, func(cc grpc.ClientConnInterface, left *durationpb.Duration) (err error) {
		token, err = c.acquire(ctx, cc, left)
		return err
	})
	return token, err
}

// Context ends when the ownership does, at the latest when etcd could give it to
// another. Its cause is one of core's: ErrReleased, ErrSessionExpired,
// ErrSessionClosed, ErrRevoked, ErrKeyDeleted.
func (h *Held) Context() context.Context { return h.ctx }

// Token returns the fencing token.
func (h *Held) Token() core.Token { return core.Token(h.token) }

// Release lets go. The ctx bounds the asking. It returns nil also if the ownership
// was lost before: it has ended afterwards, and Context said so.
func (h *Held) Release(ctx context.Context) error {
	h.end()
	left := h.s.Remaining()
	if left <= 0 {
		return nil // it ended with the session
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	for {
		err := h.s.client.Do(ctx, func(cc grpc.ClientConnInterface) error { return h.claim.release(ctx, cc, h.token) })
		switch reason := recipe.Reason(err); {
		case reason == "not_owner", reason == "session_expired":
			return nil
		case err == nil, !passes(err), !pause(ctx, retryPause):
			return err
		}
	}
}

// end ends the ownership here, and waits until nobody follows it any more.
func (h *Held) end() {
	h.ctx.End(core.ErrReleased)
	h.stop()
	<-h.done
}

// follow ends the ownership when its session ends, or when a host says that
// somebody else took the name.
func (h *Held) follow(ctx context.Context) {
	defer close(h.done)
	stop := context.AfterFunc(h.s.ctx.Inner(), func() { h.ctx.End(context.Cause(h.s.ctx.Inner())) })
	defer stop()
	wait := time.Duration(0)
	for h.ctx.Check() == nil && pause(ctx, wait) {
		err := h.watch(ctx, h.s.client.conn())
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
func (h *Held) watch(ctx context.Context, cc grpc.ClientConnInterface) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next, err := h.claim.watch(ctx, cc)
	if err != nil {
		return err
	}
	var state *standing
	for complete := true; ; {
		n, err := next()
		if err != nil {
			return err
		}
		if n.initial && complete {
			state = nil // what is not told again is not so any more
		}
		if n.state != nil {
			state = n.state
		}
		complete = !n.more
		if !complete || n.revision < h.grantedAt() {
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

// lostIn returns why the ownership is over if the name's state says so.
func (h *Held) lostIn(s *standing) error {
	if s == nil {
		return h.claim.gone()
	}
	for _, o := range s.owners {
		if o.token == h.token {
			return o.ends
		}
	}
	if s.count > len(s.owners) {
		return nil // not all are shown
	}
	return h.claim.gone()
}
