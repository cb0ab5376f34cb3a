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

var errHost = errors.New("the host stops")

// TestJoinedJoint: what a service makes of a call's end reaches whoever waits for
// the call or the session, whichever of the contexts was asked for a channel.
func TestJoinedJoint(t *testing.T) {
	ends := map[string]func(call context.CancelCauseFunc, host func()){
		"the call": func(call context.CancelCauseFunc, _ func()) { call(errCaller) },
		"the host": func(_ context.CancelCauseFunc, host func()) { host() },
	}
	for name, want := range map[string]error{"the call": errOf(errCaller), "the host": errHost} {
		for _, asked := range []string{"neither", "the inner", "the outer"} {
			t.Run(name+", asked "+asked, func(t *testing.T) {
				call, endCall := context.WithCancelCause(context.Background())
				host, endHost := context.WithCancel(context.Background())
				t.Cleanup(func() { endCall(nil); endHost() })
				inner := engine.Join(call, host, errOf, func() error { return errHost })
				outer := engine.Join(inner, t.Context(), nil, func() error { return errSession })
				t.Cleanup(inner.Release)
				t.Cleanup(outer.Release)
				switch asked {
				case "the inner":
					_ = inner.Done()
				case "the outer":
					_ = outer.Done()
				}
				a, b, c := engine.Ends(outer)
				if outer.Err() != nil {
					t.Fatal("it has ended before either did")
				}
				ends[name](endCall, endHost)
				select {
				case <-a:
				case <-b:
				case <-c:
				case <-within(t).Done():
					t.Fatal("no channel was closed")
				}
				over(t, "the end", outer.Done())
				if outer.Err() == nil || context.Cause(outer).Error() != want.Error() {
					t.Errorf("error %v, cause %v, want %v", outer.Err(), context.Cause(outer), want)
				}
			})
		}
	}
}

func errOf(cause error) error { return errors.New("as told: " + cause.Error()) }
