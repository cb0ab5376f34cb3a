package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/ownership"
	"github.com/conclavehq/conclave/internal/watch"
)

// linger is how long a name keeps its watch after its last use.
const linger = 10 * time.Second

// errLostWatch says that a watch ended while it was opened: open another one.
var errLostWatch = errors.New("watch lost")

// A Hall is one recipe's names as one session sees them. All users of a session
// share it, so that it is where goroutines of one session meet.
type Hall struct {
	s      *core.Session
	e      *engine.Engine
	recipe string
	record Record // what all records of the session have in common

	owners ownership.Group // what the session owns through the hall

	mu     sync.Mutex
	places map[placeKey]*place
}

type placeKey struct {
	name string
	kind Kind // none for the barrier that somebody holds
}

type hallKey struct{ recipe string }

// For returns the session's hall of a recipe, the first part of whose keys is the
// recipe's name.
func For(s *core.Session, recipe string) *Hall {
	return s.Engine().Shared(hallKey{recipe}, func() any {
		h := &Hall{s: s, e: s.Engine(), recipe: recipe, record: recordFor(s), places: make(map[placeKey]*place)}
		context.AfterFunc(h.e.Session(), h.owners.End)
		return h
	}).(*Hall)
}

// Close ends the watches. The engine calls it, after all work.
func (h *Hall) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.places {
		if p.dropped != nil {
			p.dropped.Stop()
		}
		p.close()
	}
}

// A place is what a session keeps of one kind of one name.
type place struct {
	keys
	h     *Hall
	key   placeKey
	board *board[state]    // of a kind with generations
	holds *board[holdings] // of a barrier

	starting chan struct{} // holds one token: who has it begins a generation

	memory memory

	mu      sync.Mutex
	keepers map[string]*keeper
	shared  map[string]int // how many here wait in one place of the session, by id

	users   int // guarded by the hall's mu, like the next one
	dropped *time.Timer
}

// use returns the session's part of a name; every use is followed by a drop.
func (h *Hall) use(name string, kind Kind) *place {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := placeKey{name, kind}
	p := h.places[key]
	if p == nil {
		p = h.newPlace(key)
		h.places[key] = p
	}
	p.users++
	if p.dropped != nil {
		p.dropped.Stop()
	}
	return p
}

func (h *Hall) newPlace(key placeKey) *place {
	prefix := keyspace.Prefix(h.s.Namespace(), h.recipe, key.name)
	if key.kind != "" {
		prefix += string(key.kind) + "/"
	}
	p := &place{h: h, key: key, keys: keys{prefix}, starting: make(chan struct{}, 1),
		keepers: make(map[string]*keeper), shared: make(map[string]int)}
	if key.kind == "" {
		p.holds = newBoard[holdings](h, prefix+holdPart)
		p.holds.prefix, p.holds.read = true, p.readHoldings
		return p
	}
	p.board = newBoard[state](h, p.at())
	p.board.read = p.readState
	p.board.seen = p.remember
	p.board.told = func(ev *clientv3.Event) state {
		if ev.Type == clientv3.EventTypeDelete {
			return state{}
		}
		return stateOf(ev.Kv)
	}
	return p
}

// alone runs f, which begins a generation because the state is s, unless the state
// is known to be another one by now: of many who come at one time one begins.
func (p *place) alone(ctx context.Context, s state, f func() error) error {
	select {
	case p.starting <- struct{}{}:
		defer func() { <-p.starting }()
	case <-ctx.Done():
		return waitError(ctx)
	}
	if now, known, _ := p.board.now(); known && now.rev != s.rev {
		return nil
	}
	return f()
}

func (p *place) readState(ctx context.Context) (state, int64, error) {
	resp, err := p.h.e.Client().Get(ctx, p.at())
	if err != nil {
		return state{}, 0, err
	}
	if len(resp.Kvs) == 0 {
		return state{}, resp.Header.Revision, nil
	}
	return stateOf(resp.Kvs[0]), resp.Header.Revision, nil
}

func (h *Hall) drop(p *place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.users--
	switch {
	case p.users > 0:
	case p.dropped == nil:
		p.dropped = time.AfterFunc(linger, func() { h.forget(p) })
	default:
		p.dropped.Reset(linger)
	}
}

// forget ends what a place keeps, unless it is in use again.
func (h *Hall) forget(p *place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.users == 0 && h.places[p.key] == p {
		delete(h.places, p.key)
		p.close()
	}
}

func (p *place) close() {
	if p.board != nil {
		p.board.close()
	}
	if p.holds != nil {
		p.holds.close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.keepers {
		k.close()
	}
}

// begin starts a call: what it returns ends with the caller's ctx and with the
// session. The function returned ends the call.
func (h *Hall) begin(ctx context.Context) (context.Context, func(), error) {
	if !h.e.Enter() {
		return nil, nil, h.ended()
	}
	j := h.e.Join(ctx, h.ended)
	done := func() {
		j.Release()
		h.e.Leave()
	}
	if j.Err() != nil || h.s.Context().Err() != nil {
		err := h.ended()
		if ctx.Err() != nil {
			err = waitError(ctx)
		}
		done()
		return nil, nil, err
	}
	return j, done, nil
}

// ended returns why the session ended.
func (h *Hall) ended() error {
	if err := context.Cause(h.s.Context()); err != nil {
		return err
	}
	return core.ErrSessionClosed
}

// background returns a context for what goes on after its caller went: for a TTL,
// after which the lease decides.
func (h *Hall) background(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, h.e.TTL())
}

// detached runs what goes on whatever its caller does, for a TTL. If etcd did not
// answer for so long the outcome is unknown.
func (h *Hall) detached(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := h.background(ctx)
	defer cancel()
	err := f(ctx)
	if err != nil && ctx.Err() != nil && !isSessionEnd(err) {
		return fmt.Errorf("%w: etcd did not answer", core.ErrUnknownOutcome)
	}
	return err
}

// settle sends a transaction until its outcome is known, or ctx ends. The function
// lost, if any, is told of every try whose outcome is not.
func (h *Hall) settle(ctx context.Context, t commit.Txn, lost func()) (commit.Result, error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		r, err := h.e.Do(ctx, t)
		if err == nil {
			return r, nil
		}
		if errors.Is(err, commit.ErrUnknown) && lost != nil {
			lost()
		}
		if ctx.Err() != nil || !passing(err) {
			return r, h.refused(ctx, err)
		}
		h.e.Log().Debug("ask etcd again", "error", err)
		if sleep(ctx, pause) != nil {
			return r, err
		}
	}
}

// settleLean is settle for what lets something go. Without space etcd takes
// deletions only, and so the lean form, which writes nothing: what it leaves out
// keeps late requests away, of which none is applied either as long as that is so.
func (h *Hall) settleLean(ctx context.Context, t commit.Txn, lean []clientv3.Op, lost func()) (commit.Result, error) {
	r, err := h.settle(ctx, t, lost)
	if errors.Is(err, rpctypes.ErrNoSpace) {
		t.Then = lean
		return h.settle(ctx, t, lost)
	}
	return r, err
}

// refused makes the caller's error of one that etcd answered with.
func (h *Hall) refused(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, commit.ErrClosed):
		return h.ended()
	case errors.Is(err, rpctypes.ErrLeaseNotFound) && h.e.LeaseGone(ctx):
		return h.ended()
	}
	return err
}

// patiently repeats a look at etcd until it succeeds, or ctx ends.
func (h *Hall) patiently(ctx context.Context, f func(ctx context.Context) error) error {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := f(ctx)
		if err == nil || ctx.Err() != nil || !passing(err) {
			if ctx.Err() != nil {
				return waitError(ctx)
			}
			return err
		}
		h.e.Log().Debug("look again", "error", err)
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// passing tells whether an error may go away by itself.
func passing(err error) bool {
	if lost, ok := errors.AsType[*watch.LostError](err); ok {
		return lost.Reason != watch.Auth && lost.Reason != watch.Closed
	}
	if errors.Is(err, commit.ErrUnknown) || errors.Is(err, errLostWatch) {
		return true
	}
	c := status.Code(err)
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		c = e.Code() // which has no gRPC status
	}
	return c == codes.Unavailable || c == codes.DeadlineExceeded
}

// waitError says why a wait ended: by the session, or by the caller's ctx, whose
// Err and cause are both in it.
func waitError(ctx context.Context) error {
	cause := context.Cause(ctx)
	if isSessionEnd(cause) || errors.Is(cause, ctx.Err()) {
		return cause
	}
	return errors.Join(ctx.Err(), cause)
}

func isSessionEnd(err error) bool {
	return errors.Is(err, core.ErrSessionExpired) || errors.Is(err, core.ErrSessionClosed)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return waitError(ctx)
	}
}
