package conformance

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A scene is one run of a scenario, with a name of its own and two callers.
type scene struct {
	*Scenario

	s             *Suite
	first, second caller
	vars          vars
}

// scenes runs a check with every scenario that has what it needs.
func (s *Suite) scenes(ctx context.Context, p *place, needs func(*Scenario) bool, missing string, check func(ctx context.Context, x *scene) error) error {
	found := false
	for i := range s.cfg.Scenarios {
		sc := &s.cfg.Scenarios[i]
		if !needs(sc) {
			continue
		}
		found = true
		if err := s.scene(ctx, p, sc, check); err != nil {
			return fmt.Errorf("scenario %s: %w", sc.Name, err)
		}
	}
	if !found {
		return skip("no scenario with %s is given", missing)
	}
	return nil
}

func (s *Suite) scene(ctx context.Context, p *place, sc *Scenario, check func(ctx context.Context, x *scene) error) error {
	x := &scene{Scenario: sc, s: s, vars: vars{name: s.name()}}
	var err error
	if x.first, err = p.caller(ctx, "first"); err != nil {
		return err
	}
	if x.second, err = p.caller(ctx, "second"); err != nil {
		return err
	}
	for i := range sc.Setup {
		if _, err := p.call(ctx, &sc.Setup[i], x.first, x.vars); err != nil {
			return fmt.Errorf("setup: %w", err)
		}
	}
	return check(ctx, x)
}

// end closes the scene's sessions at a place.
func (x *scene) end(ctx context.Context, p *place) error {
	return errors.Join(x.first.end(ctx, p), x.second.end(ctx, p))
}

// take calls Take, if there is one, and keeps its answer for later requests.
func (x *scene) take(ctx context.Context, p *place) error {
	if x.Take == nil {
		return nil
	}
	answer, err := p.call(ctx, x.Take, x.first, x.vars)
	if err != nil {
		return fmt.Errorf("take: %w", err)
	}
	x.vars.take = answer
	return nil
}

// show calls Show, if there is one.
func (x *scene) show(ctx context.Context, p *place) (any, error) {
	if x.Show == nil {
		return nil, nil //nolint:nilnil // nothing is shown
	}
	answer, err := p.call(ctx, x.Show, x.first, x.vars)
	if err != nil {
		return nil, fmt.Errorf("show: %w", err)
	}
	return answer, nil
}

// sameShow returns an error unless what is shown is what was shown.
func (x *scene) sameShow(ctx context.Context, p *place, before any) error {
	after, err := x.show(ctx, p)
	if err != nil || x.Show == nil {
		return err
	}
	return x.Show.same(before, after)
}

// free calls Free.
func (x *scene) free(ctx context.Context, p *place) error {
	if _, err := p.call(ctx, x.Free, x.first, x.vars); err != nil {
		return fmt.Errorf("free: %w", err)
	}
	return nil
}

// wait calls Wait in a goroutine, and returns where its end is told, once it waits.
func (x *scene) wait(ctx context.Context, p *place) (<-chan error, error) {
	m, _, err := p.method(ctx, x.Wait.Method)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		_, err := p.call(ctx, x.Wait, x.second, x.vars)
		done <- err
	}()
	if options(m).GetSessionField() == "" {
		return done, nil // nothing tells that it waits, and nothing stays of it
	}
	// A place in line is a key on the waiter's lease.
	there := make(chan error, 1)
	looking, stop := context.WithCancel(ctx)
	defer stop()
	go func() { there <- x.s.store.attached(looking, x.second.lease) }()
	select {
	case err = <-there:
		if err != nil {
			err = fmt.Errorf("wait: %w", err)
		}
		return done, err
	case err := <-done:
		stop()
		if looked := <-there; looked == nil {
			err = errors.Join(err, errors.New("it had a place in line"))
		}
		return nil, fmt.Errorf("wait: ended before it was freed, with %w", orNil(err))
	}
}

var errNone = errors.New("no error")

func orNil(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

// left returns an error unless the waiting call is gone: no handler has it any more,
// and whoever waits next is next.
func (x *scene) left(ctx context.Context, p *place) error {
	if handed := p.runner.faults().handed; handed != nil {
		if err := handed(ctx); err != nil {
			return fmt.Errorf("its handler does not end: %w", err)
		}
	}
	gone := x.second
	next, err := p.caller(ctx, "third")
	if err != nil {
		return err
	}
	x.second = next
	if err := x.pass(ctx, p, p); err != nil {
		return fmt.Errorf("after it somebody else waits in vain: %w", err)
	}
	return gone.end(ctx, p)
}

// answers returns an error unless every method answers, with whatever it is that
// it answers to an empty request.
func (p *place) answers(ctx context.Context) error {
	methods, err := p.methods(ctx)
	if err != nil {
		return err
	}
	for _, m := range methods {
		err := p.try(ctx, m, nil)
		if code := status.Code(err); code == codes.Unavailable || code == codes.Unimplemented {
			return fmt.Errorf("%s: %w", m.FullName(), err)
		}
	}
	return nil
}
