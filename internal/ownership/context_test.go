package ownership_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/conclavehq/conclave/internal/ownership"
)

var errLapsed = errors.New("lapsed")

func lapsing() (*ownership.Context, *atomic.Bool) {
	var over atomic.Bool
	return ownership.NewContext(context.Background(), func() error {
		if over.Load() {
			return errLapsed
		}
		return nil
	}), &over
}

func TestErrComparesTheClock(t *testing.T) {
	ctx, over := lapsing()
	if ctx.Err() != nil {
		t.Fatal("ended before it lapsed")
	}
	over.Store(true)
	if ctx.Err() == nil || !errors.Is(context.Cause(ctx), errLapsed) {
		t.Fatalf("err %v, cause %v", ctx.Err(), context.Cause(ctx))
	}
}

func TestDoneComparesTheClock(t *testing.T) {
	ctx, over := lapsing()
	over.Store(true)
	select {
	case <-ctx.Done():
	default:
		t.Fatal("Done is open after the lapse")
	}
}

func TestChildrenEndWithTheCauseAndCostNoGoroutine(t *testing.T) {
	ctx, over := lapsing()
	before := runtime.NumGoroutine()
	children := make([]context.Context, 100)
	cancels := make([]func(), len(children))
	for i := range children {
		children[i], cancels[i] = context.WithCancel(ctx)
	}
	if n := runtime.NumGoroutine(); n > before+10 {
		t.Fatalf("%d goroutines for 100 children", n-before)
	}
	over.Store(true)
	_ = ctx.Check()
	for _, child := range children {
		if !errors.Is(context.Cause(child), errLapsed) {
			t.Errorf("child's cause is %v", context.Cause(child))
		}
	}
	for _, cancel := range cancels {
		cancel()
	}
}

func TestFirstEndCounts(t *testing.T) {
	ctx, over := lapsing()
	first := errors.New("released")
	ctx.End(first)
	over.Store(true)
	if !errors.Is(ctx.Check(), first) {
		t.Fatalf("cause %v", ctx.Check())
	}
}

func TestBaseBoundsNothingButItsValuesStay(t *testing.T) {
	base, cancel := context.WithCancel(ownership.WithToken(context.Background(), 7))
	ctx := ownership.NewContext(base, func() error { return nil })
	cancel()
	if ctx.Err() != nil {
		t.Fatal("ended with its base")
	}
	if tok, ok := ownership.Token(ctx); !ok || tok != 7 {
		t.Fatalf("token %d %v", tok, ok)
	}
}
