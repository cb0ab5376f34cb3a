//go:build unix

package launcher_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// version returns a Spec of another version of the trial recipe.
func version(t *testing.T, v string) launcher.Spec {
	t.Helper()
	s := self(t, "trial", trial{version: v})
	s.Env = []string{"TRIAL_VERSION=" + v}
	return s
}

// Ten upgrades under load lose no call; streams are told to come again.
func TestUpgradesUnderLoad(t *testing.T) {
	t.Parallel()
	h, p := run(t, launcher.Config{}, version(t, "1.0.0"))
	becomes(t, p, recipe.StateReady)
	c := connect(t, h)
	ctx, stop := context.WithCancel(within(t))
	var callers sync.WaitGroup
	var mu sync.Mutex
	served, streams := 0, 0
	for n := range 4 {
		what := []string{"echo x", "sleep 5ms"}[n%2] // with a wait, some are under way at every moment
		callers.Go(func() {
			for ctx.Err() == nil {
				if _, err := do(within(t), c, what); err != nil {
					t.Errorf("%s: %v", what, err)
				}
				mu.Lock()
				served++
				mu.Unlock()
			}
		})
	}
	for range 2 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if err := watch(ctx, c); ctx.Err() == nil && recipe.Reason(err) != "recipe_restarting" {
					t.Errorf("a stream was told %v", err)
				}
				mu.Lock()
				streams++
				mu.Unlock()
			}
		})
	}
	for n := range 10 {
		v := "1.0." + string(rune('1'+n))
		if err := p.Upgrade(within(t), version(t, v)); err != nil {
			t.Fatal(err)
		}
		if got, err := do(within(t), c, "version"); err != nil || got != v {
			t.Errorf("after upgrade %d: %q, %v", n, got, err)
		}
	}
	stop()
	callers.Wait()
	if now := p.Status(); now.Version != "1.0.:" || now.Restarts != 10 || now.State != recipe.StateReady {
		t.Errorf("%+v", now)
	}
	if got := p.Info().Version; got != "1.0.:" {
		t.Errorf("Info says %s", got)
	}
	t.Logf("%d calls, %d streams", served, streams)
}

// watch opens a stream and reads it to its end.
func watch(ctx context.Context, c *grpc.ClientConn) error {
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/trial.v1.TrialService/Watch")
	if err == nil {
		err = errors.Join(s.SendMsg(wrapperspb.String("")), s.CloseSend())
	}
	for err == nil {
		err = s.RecvMsg(new(wrapperspb.StringValue))
	}
	return err
}

// A call that waits goes on in the old process for a while, and is then told to
// come again.
func TestUpgradeEndsWaitingCalls(t *testing.T) {
	t.Parallel()
	h, p := run(t, launcher.Config{Drain: 50 * time.Millisecond}, version(t, "1.0.0"))
	before := becomes(t, p, recipe.StateReady)
	c := connect(t, h)
	told := make(chan error, 1)
	go func() {
		_, err := do(within(t), c, "wait")
		told <- err
	}()
	for range 20 { // it is under way by then, or is held and begins in the new process
		if _, err := do(within(t), c, "echo"); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Restart(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-told; status.Code(err) != codes.Unavailable || recipe.Reason(err) != "recipe_restarting" {
		t.Errorf("told %v", err)
	}
	gone(t, before.PID)
}

// Whatever is wrong with the next version, the one before serves on.
func TestUpgradesThatFail(t *testing.T) {
	t.Parallel()
	h, p := run(t, launcher.Config{}, version(t, "1.0.0"))
	before := becomes(t, p, recipe.StateReady)
	c := connect(t, h)
	missing := version(t, "2.0.0")
	missing.Descriptors = without(missing.Descriptors, "Watch")
	renamed := version(t, "2.0.0")
	renamed.Name = "another"
	wrong := version(t, "2.0.0")
	wrong.SHA256 = make([]byte, 32)
	hanging := version(t, "2.0.0")
	hanging.Args, hanging.Limits.StartTimeout = []string{"plugin", "hangs"}, 200*time.Millisecond
	crashing := version(t, "2.0.0")
	crashing.Args = []string{"plugin", "silent"}
	lying := version(t, "2.0.0")
	lying.Args = []string{"plugin", "lock"}
	for name, tt := range map[string]struct {
		spec launcher.Spec
		want string
	}{
		"a method is missing":  {missing, "method trial.v1.TrialService.Watch is missing"},
		"another plugin":       {renamed, "is another plugin"},
		"another program":      {wrong, "SHA-256"},
		"it hangs":             {hanging, "took too long"},
		"it ends":              {crashing, "ended before"},
		"it is another recipe": {lying, "cannot be opened"},
	} {
		if err := p.Upgrade(within(t), tt.spec); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if got, err := do(within(t), c, "version"); err != nil || got != "1.0.0" {
			t.Errorf("%s: the one before says %q, %v", name, got, err)
		}
	}
	if now := p.Status(); now.PID != before.PID || now.State != recipe.StateReady || now.Version != "1.0.0" {
		t.Errorf("%+v", now)
	}
}

// without returns descriptors in which a method is missing.
func without(set *descriptorpb.FileDescriptorSet, method string) *descriptorpb.FileDescriptorSet {
	set = proto.CloneOf(set)
	for _, f := range set.File {
		for _, s := range f.Service {
			for n, m := range s.Method {
				if m.GetName() == method {
					s.Method = append(s.Method[:n:n], s.Method[n+1:]...)
					break
				}
			}
		}
	}
	return set
}

// An upgrade mends what is in quarantine.
func TestUpgradeOutOfQuarantine(t *testing.T) {
	t.Parallel()
	bad := version(t, "1.0.0")
	bad.Args = []string{"plugin", "prints"}
	h, p := run(t, launcher.Config{}, bad)
	becomes(t, p, recipe.StateQuarantined)
	if err := p.Restart(within(t)); err == nil {
		t.Error("what cannot start was restarted")
	}
	if err := p.Upgrade(within(t), version(t, "1.0.1")); err != nil {
		t.Fatal(err)
	}
	if got, err := do(within(t), connect(t, h), "version"); err != nil || got != "1.0.1" {
		t.Errorf("%q, %v", got, err)
	}
	if now := p.Status(); now.State != recipe.StateReady || now.Version != "1.0.1" {
		t.Errorf("%+v", now)
	}
}
