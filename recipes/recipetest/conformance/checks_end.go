package conformance

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/goleak"
)

// checkGoroutines opens the recipe, uses it, closes it, and counts.
func checkGoroutines(ctx context.Context, s *Suite) error {
	if err := s.unshare(ctx); err != nil { // whatever is begun there meanwhile would be counted
		return err
	}
	before := goleak.IgnoreCurrent()
	p, err := s.open(ctx, probing{})
	if err != nil {
		return err
	}
	err = p.answers(ctx)
	used := s.scenes(ctx, p, takes, "Take", func(ctx context.Context, x *scene) error {
		return errors.Join(x.take(ctx, p), x.end(ctx, p))
	})
	if errors.Is(used, errSkipped) {
		used = nil
	}
	if err := errors.Join(err, used, p.close(ctx)); err != nil {
		return err
	}
	// Connections end a moment after both their sides have; Find itself waits.
	for err = goleak.Find(before); err != nil && ctx.Err() == nil; {
		err = goleak.Find(before)
	}
	if err != nil {
		return fmt.Errorf("after the host has stopped: %.2000s", err.Error())
	}
	return nil
}

// checkByHand starts the program as somebody does who found it in a directory.
func checkByHand(ctx context.Context, s *Suite) error {
	return s.subject.program.byHand(ctx)
}

// checkProtocol offers a version of the plugin protocol that nobody speaks.
func checkProtocol(ctx context.Context, s *Suite) error {
	return s.subject.program.protocol(ctx)
}

// checkHostLoss takes the host away from the program.
func checkHostLoss(ctx context.Context, s *Suite) error {
	return s.subject.program.hostLoss(ctx, s)
}
