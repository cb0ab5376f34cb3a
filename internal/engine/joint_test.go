package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/conclavehq/conclave/internal/engine"
)

var (
	errCaller  = errors.New("the caller went")
	errSession = errors.New("the session ended")
)

// joint returns a context of a caller and a session, and what ends either.
func joint(t *testing.T) (j *engine.Joint, caller, session func()) {
	t.Helper()
	sess, endSession := context.WithCancel(context.Background())
	t.Cleanup(endSession)
	e := engine.New(engine.Config{Client: etcd.Client(t), Lease: 1, TTL: ttl, Session: sess, Gone: func() {}})
	t.Cleanup(func() { e.Close(within(t)) })
	ctx, endCaller := context.WithCancelCause(context.WithValue(context.Background(), errCaller, "kept"))
	t.Cleanup(func() { endCaller(nil) })
	j = e.Join(ctx, func() error { return errSession })
	t.Cleanup(j.Release)
	return j, func() { endCaller(errCaller) }, endSession
}

func TestJointEndsWithEither(t *testing.T) {
	for name, asked := range map[string]bool{"asked for its channel before": true, "never asked": false} {
		t.Run(name, func(t *testing.T) {
			for _, cause := range []error{errCaller, errSession} {
				j, caller, session := joint(t)
				if j.Err() != nil || j.Value(errCaller) != "kept" {
					t.Fatalf("error %v, value %v before the end", j.Err(), j.Value(errCaller))
				}
				var child context.Context = j
				if asked {
					var cancel func()
					child, cancel = context.WithCancel(j)
					t.Cleanup(cancel)
				}
				if end := caller; errors.Is(cause, errSession) {
					session()
				} else {
					end()
				}
				if asked {
					over(t, "the end of a child", child.Done())
				}
				if j.Err() == nil || !errors.Is(context.Cause(child), cause) || j.Value(errCaller) != "kept" {
					t.Errorf("error %v, cause %v, want %v", j.Err(), context.Cause(child), cause)
				}
				over(t, "the end", j.Done())
			}
		})
	}
}

func TestReleasedJointIsOver(t *testing.T) {
	for _, asked := range []bool{true, false} {
		j, _, _ := joint(t)
		if asked {
			_ = j.Done()
		}
		j.Release()
		if !errors.Is(j.Err(), context.Canceled) {
			t.Errorf("asked before: %t, error %v", asked, j.Err())
		}
		over(t, "the end", j.Done())
	}
}
