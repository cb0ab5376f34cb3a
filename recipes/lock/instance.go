package lock

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/watch"
	"github.com/conclavehq/conclave/recipes/lock/internal/history"
	"github.com/conclavehq/conclave/recipes/lock/internal/state"
)

// An instance is a LockService that runs.
type instance struct {
	lockv1.UnimplementedLockServiceServer

	env      recipe.Env
	cfg      config
	recorder *history.Recorder // nil: no history is kept
	lender   *core.Lender      // for forced releases, which act for nobody's session
	own      atomic.Pointer[core.Session]
	streams  *watch.Streams
	places   *places

	ctx  context.Context // ends with Close
	stop context.CancelCauseFunc
	life context.Context // ends when Close returns
	end  context.CancelFunc
	done chan struct{} // closed when the background work has ended
}

func newInstance(env recipe.Env, cfg config) *instance {
	i := &instance{env: env, cfg: cfg, lender: core.NewLender(env.Client), streams: new(watch.Streams), places: newPlaces(), done: make(chan struct{})}
	i.ctx, i.stop = context.WithCancelCause(context.Background())
	i.life, i.end = context.WithCancel(context.Background())
	if !cfg.off {
		i.recorder = history.NewRecorder(history.Config{Client: env.Client, Instance: env.Instance, Keep: cfg.endings, Age: cfg.age, Log: env.Log})
	}
	go i.run()
	return i
}

// run does the background work until Close.
func (i *instance) run() {
	defer close(i.done)
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { i.places.run(i.ctx) })
	i.keepSession()
}

// keepSession keeps a session of the instance's own, and records under it.
func (i *instance) keepSession() {
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval = 10 * time.Second
	for {
		err := core.Keep(i.ctx, i.env.Client, i.work, core.WithOwner("lock-recipe"), core.WithLogger(i.env.Log))
		if i.ctx.Err() != nil {
			return
		}
		i.env.Log.Warn("lock recipe: background work ended, it starts again", "err", err)
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-timer.C:
		case <-i.ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (i *instance) work(ctx context.Context, s *core.Session) error {
	defer i.leave(s)
	i.own.Store(s)
	defer i.own.Store(nil)
	if i.recorder != nil {
		return i.recorder.Run(ctx, s)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// leave ends the instance's own session. The session's Close would try to revoke
// its lease for a TTL, and outlive the instance while etcd is away.
func (i *instance) leave(s *core.Session) {
	s.Orphan()
	if errors.Is(context.Cause(s.Context()), core.ErrSessionExpired) {
		return
	}
	ctx, cancel := context.WithTimeout(i.life, readBudget)
	defer cancel()
	if _, err := i.env.Client.Revoke(ctx, s.Lease()); err != nil {
		i.env.Log.Debug("lock recipe: its lease ends by itself", "err", err)
	}
}

// Close ends calls that wait, with their places in line kept, and what runs in
// the background. It returns ctx's error if that takes too long. It is
// idempotent.
func (i *instance) Close(ctx context.Context) error {
	defer i.end()
	i.stop(core.ErrSessionClosed)
	select {
	case <-i.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	i.lender.Close()
	return nil
}

// space returns the keys of the namespace that a request is about.
func (i *instance) space(ctx context.Context, requested string) (state.Space, error) {
	namespace, err := recipe.Namespace(ctx, requested)
	if err != nil {
		return state.Space{}, err
	}
	return state.NewSpace(namespace, i.env.Instance), nil
}

// named is space for a request about one name.
func (i *instance) named(ctx context.Context, requested, name string) (state.Space, error) {
	s, err := i.space(ctx, requested)
	if err != nil {
		return s, err
	}
	return s, invalid(keyspace.CheckName("name", name))
}

// readBudget bounds one question to etcd on behalf of people: its client waits for
// a connection as long as it may. A leader's election takes about a second and a
// half.
const readBudget = 5 * time.Second

// errSilent is the answer to a call whose question etcd left unanswered.
var errSilent = recipe.Errorf(codes.Unavailable, recipe.ReasonNoQuorum, "etcd does not answer")

// bounded asks etcd within the budget.
func bounded[T any](ctx context.Context, ask func(ctx context.Context) (T, error)) (T, error) {
	within, cancel := context.WithTimeout(ctx, readBudget)
	defer cancel()
	answer, err := ask(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		err = errSilent
	}
	return answer, err
}

// get is a read that is bounded.
func get(ctx context.Context, c *clientv3.Client, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return bounded(ctx, func(ctx context.Context) (*clientv3.GetResponse, error) { return c.Get(ctx, key, opts...) })
}
