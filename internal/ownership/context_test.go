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
	type key struct{}
	base, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "kept"))
	ctx := ownership.NewContext(base, func() error { return nil })
	cancel()
	if ctx.Err() != nil {
		t.Fatal("ended with its base")
	}
	if ctx.Value(key{}) != "kept" {
		t.Fatal("the base's values are gone")
	}
}

func TestTokenAndOwnerReachChildren(t *testing.T) {
	outer := ownership.NewContext(context.Background(), func() error { return nil })
	if _, ok := ownership.Token(outer); ok || ownership.Owner(outer) != nil {
		t.Fatal("a session's context has a token or an owner")
	}
	outer.Owns(7, "outer")
	inner := ownership.NewContext(outer, func() error { return nil })
	if tok, ok := ownership.Token(inner); !ok || tok != 7 {
		t.Fatalf("token %d %v, want the outer one", tok, ok)
	}
	inner.Owns(8, "inner")
	child, cancel := context.WithCancel(inner)
	defer cancel()
	if tok, ok := ownership.Token(child); !ok || tok != 8 || ownership.Owner(child) != "inner" {
		t.Fatalf("token %d %v, owner %v", tok, ok, ownership.Owner(child))
	}
}
