package conformance

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// checkRestart kills the recipe and calls it.
func checkRestart(ctx context.Context, s *Suite) error {
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	if err := p.crash(ctx); err != nil {
		return err
	}
	return p.answers(ctx)
}

// checkOwnership kills the recipe while callers own things.
func checkOwnership(ctx context.Context, s *Suite) error {
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	return s.scenes(ctx, p, takes, "Take", func(ctx context.Context, x *scene) error {
		if err := x.take(ctx, p); err != nil {
			return err
		}
		shown, err := x.show(ctx, p)
		if err != nil {
			return err
		}
		before, err := s.store.keys(ctx, x.first.lease)
		if err != nil {
			return err
		}
		if err := p.crash(ctx); err != nil {
			return err
		}
		if err := x.kept(ctx, x.first, before); err != nil {
			return err
		}
		if err := x.sameShow(ctx, p, shown); err != nil {
			return err
		}
		m, _, err := p.method(ctx, x.Take.Method)
		if err != nil {
			return err
		}
		if repeatable(m) {
			if err := x.repeat(ctx, p); err != nil {
				return err
			}
		}
		return x.end(ctx, p)
	})
}

// checkPause stops the recipe's process for a moment.
func checkPause(ctx context.Context, s *Suite) error {
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	f := p.runner.faults()
	paused := func(ctx context.Context) error {
		if err := f.pause(); err != nil {
			return err
		}
		// Its sessions are the host's business, and go on.
		who, err := p.caller(ctx, "meanwhile")
		return errors.Join(err, f.resume(), who.end(ctx, p))
	}
	if err := paused(ctx); err != nil {
		return err
	}
	err = s.scenes(ctx, p, takes, "Take", func(ctx context.Context, x *scene) error {
		if err := x.take(ctx, p); err != nil {
			return err
		}
		before, err := s.store.keys(ctx, x.first.lease)
		if err != nil {
			return err
		}
		if err := errors.Join(paused(ctx), x.kept(ctx, x.first, before)); err != nil {
			return err
		}
		return x.end(ctx, p)
	})
	if errors.Is(err, errSkipped) {
		err = nil // its second half
	}
	if err != nil {
		return err
	}
	return p.answers(ctx)
}

// checkDrain stops a host while somebody waits there, and waits on at the next.
func checkDrain(ctx context.Context, s *Suite) error {
	p, err := s.open(ctx, probing{})
	if err != nil {
		return err
	}
	err = s.scenes(ctx, p, waits, "Wait and Free", func(ctx context.Context, x *scene) error {
		if err := x.take(ctx, p); err != nil {
			return err
		}
		done, err := x.wait(ctx, p)
		if err != nil {
			return err
		}
		owned, err := s.store.keys(ctx, x.first.lease)
		if err != nil {
			return err
		}
		place, err := s.store.keys(ctx, x.second.lease)
		if err != nil {
			return err
		}
		if err := p.stop(ctx); err != nil {
			return fmt.Errorf("stop: %w", err)
		}
		if err := <-done; status.Code(err) != codes.Unavailable {
			return fmt.Errorf("the call that waited ended with %w, where UNAVAILABLE tells to call again", orNil(err))
		}
		if err := p.close(ctx); err != nil {
			return fmt.Errorf("stop: %w", err)
		}
		if x.Transient {
			place = nil
		}
		if err := errors.Join(x.kept(ctx, x.first, owned), x.still(ctx, x.second, place)); err != nil {
			return fmt.Errorf("after the stop: %w", err)
		}
		next, err := s.open(ctx, probing{})
		if err != nil {
			return fmt.Errorf("the next host: %w", err)
		}
		*p = *next
		return errors.Join(x.pass(ctx, p, p), x.end(ctx, p))
	})
	return errors.Join(err, p.close(ctx))
}
