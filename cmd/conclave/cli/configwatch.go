package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
)

// How long to wait before a key is asked for again, and how long a command that
// was asked to end may take.
const (
	watchAgain     = 200 * time.Millisecond
	watchAgainMost = 2 * time.Second
	commandGrace   = 10 * time.Second
)

func (a *app) configWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch KEY [-- COMMAND [argument...]]",
		Short: "Follow a value",
		Long: `watch prints the value of KEY and then every change, and goes on when hosts and etcd come
and go. A change that another follows at once may be left out, the last one never. The
columns are revision, author, when, and the value on one line; with -o json each line
is one document.

With a command it runs the command for every value, the present one first, with the
value on its standard input and CONCLAVE_KEY and CONCLAVE_REVISION in its environment.
One run ends before the next begins; a run that fails is told, and the next value is
waited for. Nothing is run for a key that was deleted, or that is missing or damaged:
what was good stays in force.`,
		Example: `  conclave config watch api/limits
  conclave config watch api/limits -o json | jq --unbuffered .value
  conclave config watch api/limits -- sh -c 'cat > /run/limits.json && pkill -HUP api'`,
		Args: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			if dash < 0 {
				return exactly(1, "KEY")(cmd, args)
			}
			if dash == 1 && len(args) == 1 {
				return usage("invalid_arguments", "such as: conclave config watch api/limits -- cat", "the command is missing: it must follow --")
			}
			return exactly(1, "KEY")(cmd, args[:dash])
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, restore := signal.NotifyContext(cmd.Context(), ending()...)
			defer restore()
			if len(args) > 1 {
				if _, err := exec.LookPath(args[1]); err != nil && !errors.Is(err, exec.ErrDot) {
					return notRunnable(args[1], err)
				}
			}
			err := a.withKey(ctx, args[0], 0, func(ctx context.Context, t target, c configs) error {
				w := keyWatch{app: a, t: t, c: c, key: args[0]}
				if len(args) == 1 {
					w.tell = w.print
					return w.run(ctx)
				}
				return w.runCommand(ctx, args[1:])
			})
			if ctx.Err() != nil && cmd.Context().Err() == nil {
				return nil // interrupted, which is how it ends
			}
			return err
		},
	}
}

// A keyWatch follows a key at one host after the other.
type keyWatch struct {
	*app
	t    target
	c    configs
	key  string
	tell func(v *configv1.Version) error
	seen string // what was told last
}

// run follows the key until ctx ends, or until there is no point in asking again.
func (w *keyWatch) run(ctx context.Context) error {
	return w.keepAsking(ctx, w.t, fmt.Sprintf("config %q", w.key), func() string { return w.seen }, func() error {
		return w.c.Do(ctx, func(cc grpc.ClientConnInterface) error { return w.follow(ctx, w.c.client(cc)) })
	})
}

// keepAsking asks again whenever an answer that should go on has stopped. It gives
// up if the first one, of which seen says something, never came.
func (a *app) keepAsking(ctx context.Context, t target, what string, seen func() string, ask func() error) error {
	for wait, told := watchAgain, false; ; {
		before := seen()
		err := ask()
		if ctx.Err() != nil || seen() == "" || !passing(explain(ctx, t, err)) {
			return err
		}
		if seen() != before || !told {
			a.note(fmt.Sprintf("%s: asking again: %s", what, describe(explain(ctx, t, err)).Message))
			wait, told = watchAgain, true
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		wait = min(2*wait, watchAgainMost)
	}
}

// passing reports whether an error may be over in a moment. A host whose recipes
// are not there yet does not know the call.
func passing(err error) bool {
	return describe(err).Exit == ExitUnavailable || status.Code(err) == codes.Unimplemented
}

func (w *keyWatch) follow(ctx context.Context, at configv1.ConfigServiceClient) error {
	stream, err := at.Watch(ctx, &configv1.WatchRequest{Namespace: w.namespace(w.t), Key: w.key})
	if err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		v := resp.GetVersion()
		seen := fmt.Sprint(v.GetRevision(), v.GetProblem())
		if seen == w.seen { // another host begins with it again
			continue
		}
		w.seen = seen
		if err := w.tell(v); err != nil {
			return err
		}
	}
}

func (w *keyWatch) print(v *configv1.Version) error {
	if w.flags.output.value == outputTable && v.GetProblem() != "" {
		w.note(fmt.Sprintf("config %q: %s", w.key, problemOf(v)))
		return nil
	}
	return w.printItem(configViewOf(v), []string{strconv.FormatInt(v.GetRevision(), 10), clean(v.GetAuthor()), w.when(v.GetTime()), inBrief(v, 0)})
}

// problemOf says what a version with a problem means.
func problemOf(v *configv1.Version) string {
	if v.GetRevision() == 0 {
		return "has no value yet"
	}
	return v.GetProblem() + "; the last good value is of revision " + strconv.FormatInt(v.GetRevision(), 10)
}

// runCommand runs the command for every value, and waits for the last run.
func (w *keyWatch) runCommand(ctx context.Context, argv []string) error {
	var mu sync.Mutex
	var next *configv1.Version // the newest that the command has not seen
	wake := make(chan struct{}, 1)
	w.tell = func(v *configv1.Version) error {
		switch {
		case v.GetDeleted():
			w.note(fmt.Sprintf("config %q: was deleted by %s; nothing is run", w.key, v.GetAuthor()))
			v = nil
		case v.GetProblem() != "":
			w.note(fmt.Sprintf("config %q: %s", w.key, problemOf(v)))
			return nil
		}
		mu.Lock()
		next = v
		mu.Unlock()
		select {
		case wake <- struct{}{}:
		default:
		}
		return nil
	}
	var runs sync.WaitGroup
	running, end := context.WithCancel(ctx)
	runs.Go(func() {
		for {
			select {
			case <-wake:
			case <-running.Done():
				return
			}
			mu.Lock()
			v := next
			next = nil
			mu.Unlock()
			if v != nil {
				w.runFor(running, argv, v)
			}
		}
	})
	err := w.run(ctx)
	end()
	runs.Wait()
	return err
}

// runFor runs the command for one value.
func (w *keyWatch) runFor(ctx context.Context, argv []string, v *configv1.Version) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(append([]string(nil), w.environ...), "CONCLAVE_KEY="+w.key, "CONCLAVE_REVISION="+strconv.FormatInt(v.GetRevision(), 10))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(valueOf(v)), w.stdout, w.stderr
	cmd.Cancel, cmd.WaitDelay = func() error { return terminate(cmd.Process) }, commandGrace
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		w.note(fmt.Sprintf("config %q: the command failed for revision %d: %v", w.key, v.GetRevision(), err))
	}
}
