package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
)

// A source is what templates read: keys that are followed from their first use on.
// It is owned by one render, whose Close waits for it.
type source struct {
	ctx     context.Context
	stop    context.CancelFunc
	app     *app
	t       target
	c       configs
	changed chan struct{} // holds one token when something has changed
	all     sync.WaitGroup

	mu   sync.Mutex
	keys map[string]*followed
}

// followed is a key that a template uses.
type followed struct {
	known chan struct{} // closed when the first answer is there
	once  sync.Once

	mu   sync.Mutex
	good *configv1.Version // nil: there is none
	err  error             // why there is none, or never will be
}

func newSource(ctx context.Context, a *app, t target, c configs) *source {
	s := &source{app: a, t: t, c: c, changed: make(chan struct{}, 1), keys: make(map[string]*followed)}
	s.ctx, s.stop = context.WithCancel(ctx)
	return s
}

// close ends the following, and waits for it.
func (s *source) close() {
	s.stop()
	s.all.Wait()
}

// errNoValue says that a template uses a key that has no value.
var errNoValue = errors.New("has no value")

// text is the function config of templates.
func (s *source) text(key string) (string, error) {
	v, err := s.version(key)
	if err != nil {
		return "", err
	}
	return string(valueOf(v)), nil
}

// textOr is the function configOr: only a key without a value has the other one.
func (s *source) textOr(key, otherwise string) (string, error) {
	text, err := s.text(key)
	if errors.Is(err, errNoValue) {
		return otherwise, nil
	}
	return text, err
}

// version waits for the first answer about a key.
func (s *source) version(key string) (*configv1.Version, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	f := s.follow(key)
	select {
	case <-f.known:
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.good, f.err
}

func (s *source) follow(key string) *followed {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.keys[key]
	if f != nil {
		return f
	}
	f = &followed{known: make(chan struct{}), err: noValue(key)}
	s.keys[key] = f
	w := keyWatch{app: s.app, t: s.t, c: s.c, key: key}
	w.tell = func(v *configv1.Version) error {
		s.take(f, key, v)
		return nil
	}
	s.all.Go(func() {
		err := w.run(s.ctx)
		f.mu.Lock()
		// A template that used the key once goes on with what was good.
		if f.good == nil {
			f.err = explain(s.ctx, s.t, err)
		}
		f.mu.Unlock()
		f.once.Do(func() { close(f.known) })
	})
	return f
}

func noValue(key string) error {
	return &Error{Exit: ExitNotFound, Code: codeName(codes.NotFound), Reason: "not_found", cause: errNoValue,
		Message: fmt.Sprintf("config %q: has no value", key), Hint: "set it with: conclave config set " + quoted(key) + " VALUE"}
}

// take keeps what is good. A tombstone is somebody's will, and no accident: the
// template does not render any more, and its file stays.
func (s *source) take(f *followed, key string, v *configv1.Version) {
	f.mu.Lock()
	switch {
	case v.GetDeleted():
		f.good, f.err = nil, noValue(key)
	case v.GetSize() == 0: // never set
	case v.GetProblem() != "" && f.good != nil:
	default:
		f.good, f.err = v, nil
	}
	f.mu.Unlock()
	if v.GetProblem() != "" && v.GetRevision() != 0 {
		s.app.note(fmt.Sprintf("config %q: %s", key, problemOf(v)))
	}
	f.once.Do(func() { close(f.known) })
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
