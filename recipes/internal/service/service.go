// Package service is what the standard recipes share whose names have owners and
// a line: the session of an instance's own, its history, the places of its
// callers, and the answers to those who look. A recipe adds its methods, and what
// only it can say.
package service

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/watch"
	"github.com/conclavehq/conclave/recipes/internal/history"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// A Service is an instance of a recipe, but for its methods.
type Service struct {
	Env recipe.Env

	past     History
	recorder *history.Recorder // nil: no history is kept
	lender   *core.Lender      // for what acts for nobody's session
	own      own
	streams  *watch.Streams

	ctx  context.Context // ends with Close
	stop context.CancelCauseFunc
	life context.Context // ends when Close returns
	end  context.CancelFunc
	done chan struct{} // closed when the background work has ended
}

// New starts an instance. It runs work beside its own until Close, and does no
// I/O by itself.
func New(env recipe.Env, past History, work ...func(ctx context.Context)) *Service {
	s := &Service{Env: env, past: past, lender: core.NewLender(env.Client), own: own{changed: make(chan struct{})},
		streams: new(watch.Streams), done: make(chan struct{})}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	s.life, s.end = context.WithCancel(context.Background())
	if !past.Off {
		s.recorder = history.NewRecorder(history.Config{Client: env.Client, Instance: env.Instance, Keep: past.Endings, Age: past.Age, Log: env.Log})
	}
	go s.run(append(work, s.keepSession))
	return s
}

// run does the background work until Close.
func (s *Service) run(work []func(ctx context.Context)) {
	defer close(s.done)
	var all sync.WaitGroup
	defer all.Wait()
	for _, w := range work {
		all.Go(func() { w(s.ctx) })
	}
}

// keepSession keeps a session of the instance's own, and records under it.
func (s *Service) keepSession(ctx context.Context) {
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval = 10 * time.Second
	for {
		err := core.Keep(ctx, s.Env.Client, s.work, core.WithOwner(s.Env.Instance+"-recipe"), core.WithLogger(s.Env.Log))
		if ctx.Err() != nil {
			return
		}
		s.Env.Log.Warn("recipe: background work ended, it starts again", "recipe", s.Env.Instance, "err", err)
		timer := time.NewTimer(pause.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (s *Service) work(ctx context.Context, session *core.Session) error {
	defer s.leave(session)
	s.own.set(session)
	defer s.own.set(nil)
	if s.recorder != nil {
		return s.recorder.Run(ctx, session)
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// leave ends the instance's own session. The session's Close would try to revoke
// its lease for a TTL, and outlive the instance while etcd is away.
func (s *Service) leave(session *core.Session) {
	session.Orphan()
	if errors.Is(context.Cause(session.Context()), core.ErrSessionExpired) {
		return
	}
	ctx, cancel := context.WithTimeout(s.life, readBudget)
	defer cancel()
	if _, err := s.Env.Client.Revoke(ctx, session.Lease()); err != nil {
		s.Env.Log.Debug("recipe: its lease ends by itself", "recipe", s.Env.Instance, "err", err)
	}
}

// Close ends calls that wait, with their places in line kept, and what runs in
// the background. It returns ctx's error if that takes too long. It is
// idempotent.
func (s *Service) Close(ctx context.Context) error {
	defer s.end()
	s.stop(core.ErrSessionClosed)
	select {
	case <-s.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.lender.Close()
	return nil
}

// Stopping tells that the instance is being closed.
func (s *Service) Stopping() bool { return s.ctx.Err() != nil }

// Space returns the keys of the namespace that a request is about.
func (s *Service) Space(ctx context.Context, requested string) (state.Space, error) {
	namespace, err := recipe.Namespace(ctx, requested)
	if err != nil {
		return state.Space{}, err
	}
	return state.NewSpace(namespace, s.Env.Instance), nil
}

// Named is Space for a request about one name.
func (s *Service) Named(ctx context.Context, requested, name string) (state.Space, error) {
	space, err := s.Space(ctx, requested)
	if err != nil {
		return space, err
	}
	return space, Invalid(keyspace.CheckName("name", name))
}

// Saw tells the recorder of a namespace in which the recipe is used.
func (s *Service) Saw(namespace string) {
	if s.recorder != nil {
		s.recorder.Saw(namespace)
	}
}
