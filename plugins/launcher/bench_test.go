//go:build unix

package launcher_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
	"github.com/conclavehq/conclave/recipes/lock"
)

// BenchmarkCall is a call that does nothing: of grpc-go alone over a unix socket, in
// this process and to another one, of a recipe in the host's process, and of one in a
// process of its own. The last two go through the host, the first two have nothing
// between.
func BenchmarkCall(b *testing.B) {
	ways := map[string]func(b *testing.B) *grpc.ClientConn{
		"bare":        bare,
		"bareprocess": bareProcess,
		"inprocess": func(b *testing.B) *grpc.ClientConn {
			b.Helper()
			return connect(b, startHost(b, trial{version: "1.0.0"}))
		},
		"subprocess": func(b *testing.B) *grpc.ClientConn {
			b.Helper()
			h, p := run(b, launcher.Config{}, self(b, "trial", trial{version: "1.0.0"}))
			becomes(b, p, recipe.StateReady)
			return connect(b, h)
		},
	}
	for _, way := range []string{"bare", "bareprocess", "inprocess", "subprocess"} {
		b.Run(way, func(b *testing.B) {
			c := ways[way](b)
			ctx := context.Background()
			request, reply := wrapperspb.String("echo hello"), new(wrapperspb.StringValue)
			if err := c.Invoke(ctx, "/trial.v1.TrialService/Do", request, reply); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := c.Invoke(ctx, "/trial.v1.TrialService/Do", request, reply); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// bare is grpc-go and nothing else.
func bare(b *testing.B) *grpc.ClientConn {
	b.Helper()
	server := grpc.NewServer()
	if _, err := (trial{version: "1.0.0"}).Open(within(b), recipe.Env{}, server); err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // until it is stopped
	}()
	c, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = c.Close()
		server.Stop()
		<-done
	})
	return c
}

// bareProcess is the same, with the server in a process of its own.
func bareProcess(b *testing.B) *grpc.ClientConn {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "s")
	cmd := exec.Command(exe, "plugin", "bare", path)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	c, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = c.Close()
		_ = in.Close() // at which it ends
		_ = cmd.Wait()
	})
	return c
}

// bareMain serves on a socket until its standard input ends.
func bareMain(path string) {
	server := grpc.NewServer()
	_, err := (trial{version: "1.0.0"}).Open(context.Background(), recipe.Env{}, server)
	if err == nil {
		var l net.Listener
		if l, err = net.Listen("unix", path); err == nil {
			go func() {
				_, _ = io.Copy(io.Discard, os.Stdin)
				server.Stop()
			}()
			err = server.Serve(l)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// BenchmarkLock is a lock taken and given back through the host, by a recipe in its
// process and by one in a process of its own.
func BenchmarkLock(b *testing.B) {
	for _, way := range []string{"inprocess", "subprocess"} {
		b.Run(way, func(b *testing.B) {
			var r recipe.Recipe = lock.Recipe{}
			if way == "subprocess" {
				p, err := newLauncher(b, launcher.Config{}).Plugin(self(b, "lock", lock.Recipe{}))
				if err != nil {
					b.Fatal(err)
				}
				r = p
			}
			c := connect(b, startHost(b, r))
			session := openSession(b, c)
			locks := lockv1.NewLockServiceClient(c)
			token := acquire(b, c, session, "warm") // when it serves
			if _, err := locks.Release(within(b), &lockv1.ReleaseRequest{SessionId: session, Name: "warm", Token: token}); err != nil {
				b.Fatal(err)
			}
			ctx := context.Background()
			for b.Loop() {
				got, err := locks.Acquire(ctx, &lockv1.AcquireRequest{SessionId: session, Name: "bench"})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := locks.Release(ctx, &lockv1.ReleaseRequest{SessionId: session, Name: "bench", Token: got.GetToken()}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
