package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func takes(sc *Scenario) bool { return sc.Take != nil }

func waits(sc *Scenario) bool { return sc.Wait != nil && sc.Free != nil }

func shows(sc *Scenario) bool { return sc.Take != nil && sc.Show != nil }

// checkRetry takes twice.
func checkRetry(ctx context.Context, s *Suite) error {
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	repeatable := func(sc *Scenario) bool {
		if !takes(sc) {
			return false
		}
		m, _, err := p.method(ctx, sc.Take.Method)
		return err != nil || repeatable(m) // a method that is not there is told by the call
	}
	return s.scenes(ctx, p, repeatable, "a Take that is declared idempotent", func(ctx context.Context, x *scene) error {
		if err := x.take(ctx, p); err != nil {
			return err
		}
		if err := x.repeat(ctx, p); err != nil {
			return err
		}
		return x.end(ctx, p)
	})
}

// repeat takes once more, and returns an error if anything of the first time is
// different then. Marks of its own the recipe may add.
func (x *scene) repeat(ctx context.Context, p *place) error {
	before, err := x.s.store.keys(ctx, x.first.lease)
	if err != nil {
		return err
	}
	shown, err := x.show(ctx, p)
	if err != nil {
		return err
	}
	answer := x.vars.take
	if err := x.take(ctx, p); err != nil {
		return fmt.Errorf("repeated with the same session: %w", err)
	}
	if err := x.Take.same(answer, x.vars.take); err != nil {
		return err
	}
	if err := x.still(ctx, x.first, before); err != nil {
		return err
	}
	return x.sameShow(ctx, p, shown)
}

// kept returns an error unless a caller's keys are those of before.
func (x *scene) kept(ctx context.Context, who caller, before map[string]int64) error {
	after, err := x.s.store.keys(ctx, who.lease)
	if err != nil {
		return err
	}
	if !maps.Equal(before, after) {
		return fmt.Errorf("what is attached to the session's lease, by the revision that made it, is %v, and was %v", after, before)
	}
	return nil
}

// still is kept for a caller who may have got more.
func (x *scene) still(ctx context.Context, who caller, before map[string]int64) error {
	after, err := x.s.store.keys(ctx, who.lease)
	if err != nil {
		return err
	}
	for key, revision := range before {
		if after[key] != revision {
			return fmt.Errorf("the key %q, made at revision %d, has gone from the session's lease", key, revision)
		}
	}
	return nil
}

// checkDeadline lets a call wait until its deadline.
func checkDeadline(ctx context.Context, s *Suite) error {
	return s.givenUp(ctx, func(ctx context.Context) (context.Context, func()) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		return ctx, func() { <-ctx.Done(); cancel() }
	})
}

// checkCancel cancels a call that waits.
func checkCancel(ctx context.Context, s *Suite) error {
	return s.givenUp(ctx, func(ctx context.Context) (context.Context, func()) {
		ctx, cancel := context.WithCancel(ctx)
		return ctx, cancel
	})
}

// givenUp lets a call wait, ends its context, and looks for what is left of it.
func (s *Suite) givenUp(ctx context.Context, end func(ctx context.Context) (context.Context, func())) error {
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	return s.scenes(ctx, p, waits, "Wait and Free", func(ctx context.Context, x *scene) error {
		if err := x.take(ctx, p); err != nil {
			return err
		}
		waiting, over := end(ctx)
		done, err := x.wait(waiting, p)
		late := waiting.Err() != nil // a machine so slow that the deadline came first
		over()
		if err != nil && !late {
			return err
		}
		if done != nil {
			if err := <-done; status.Code(err) != codes.DeadlineExceeded && status.Code(err) != codes.Canceled {
				return fmt.Errorf("the call ended with %w", orNil(err))
			}
		}
		if err := x.left(ctx, p); err != nil {
			return err
		}
		return x.end(ctx, p)
	})
}

// checkSideBySide takes at one host and looks, waits and frees at another.
func checkSideBySide(ctx context.Context, s *Suite) error {
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	other, err := s.open(ctx, probing{})
	if err != nil {
		return fmt.Errorf("a second host: %w", err)
	}
	either := func(sc *Scenario) bool { return shows(sc) || waits(sc) }
	err = s.scenes(ctx, p, either, "Show, or Wait and Free,", func(ctx context.Context, x *scene) error {
		if err := x.take(ctx, p); err != nil {
			return err
		}
		shown, err := x.show(ctx, p)
		if err != nil {
			return err
		}
		if err := x.sameShow(ctx, other, shown); err != nil {
			return fmt.Errorf("at the other host: %w", err)
		}
		if waits(x.Scenario) {
			if err := x.pass(ctx, other, p); err != nil {
				return err
			}
		}
		return x.end(ctx, p)
	})
	return errors.Join(err, other.close(ctx))
}

// pass waits at one place and frees at another.
func (x *scene) pass(ctx context.Context, waiting, freeing *place) error {
	done, err := x.wait(ctx, waiting)
	if err != nil {
		return err
	}
	if err := x.free(ctx, freeing); err != nil {
		return err
	}
	if err := <-done; err != nil {
		return fmt.Errorf("wait, after free: %w", err)
	}
	return nil
}
