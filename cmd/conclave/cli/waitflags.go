package cli

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/core/recipe"
)

var errWaited = errors.New("held by others")

// A waitedError is errWaited, and says what it was waited for.
type waitedError string

func (e waitedError) Error() string { return string(e) }

// Is makes it errWaited.
func (e waitedError) Is(target error) bool { return target == errWaited }

// waitFlags say how long to wait for others.
type waitFlags struct {
	wait   durationFlag
	noWait bool
}

func newWaitFlags() waitFlags { return waitFlags{wait: durationFlag{name: "wait", max: maxDuration}} }

func (f *waitFlags) register(cmd *cobra.Command, wait, noWait string) {
	cmd.Flags().Var(&f.wait, "wait", wait)
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, noWait)
}

// checkWait finds what pflag cannot.
func (f waitFlags) checkWait() error {
	if f.noWait && f.wait.set {
		return usage("invalid_wait", "give one of the two", "--wait and --no-wait exclude each other")
	}
	return nil
}

// tries reports whether it is tried once, with no place in line.
func (f waitFlags) tries() bool { return f.noWait || (f.wait.set && f.wait.value == 0) }

// waiting bounds the waiting by --wait, and a little more.
func (f waitFlags) waiting(ctx context.Context, more time.Duration) (context.Context, context.CancelFunc) {
	if f.wait.set && !f.tries() {
		return context.WithTimeoutCause(ctx, f.wait.value+more, errWaited)
	}
	return context.WithCancel(ctx)
}

// elapsed reports whether err is that --wait has elapsed, which a host calls reason.
func (f waitFlags) elapsed(waiting context.Context, err error, reason string) bool {
	return err != nil && (errors.Is(context.Cause(waiting), errWaited) || (f.wait.set && !f.tries() && recipe.Reason(err) == reason))
}
