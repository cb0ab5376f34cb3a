package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/signal"
	"strconv"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/cmd/conclave/internal/supervise"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// A doorway is a call that waits: at a barrier, or at a latch.
type doorway func(ctx context.Context, b barrierv1.BarrierServiceClient, namespace string, wait *durationpb.Duration) error

func (a *app) barrierWaitCommand() *cobra.Command {
	f := newWaitFlags()
	cmd := &cobra.Command{
		Use:   "wait NAME [flags] [-- COMMAND [argument...]]",
		Short: "Wait until nobody holds a barrier",
		Long: `wait waits until nobody holds the barrier NAME, and ends, or becomes the command. It
ends at once if nobody holds it. A moment later somebody may.

Exit codes of its own: 5 --wait elapsed, with --no-wait somebody holds it, or one who
held it with --break-on-loss died.`,
		Example: `  conclave barrier wait maintenance
  conclave barrier wait maintenance --wait 10m -- ./start.sh
  conclave barrier wait maintenance --no-wait || echo "under maintenance"`,
		Args: maybeCommandArgs("conclave barrier wait maintenance -- ./start.sh"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.checkWait(); err != nil {
				return err
			}
			return a.pass(cmd.Context(), args[0], args[1:], f,
				func(ctx context.Context, b barrierv1.BarrierServiceClient, namespace string, wait *durationpb.Duration) error {
					_, err := b.Wait(ctx, &barrierv1.WaitRequest{Namespace: namespace, Name: args[0], Wait: wait})
					return err
				})
		},
	}
	f.register(cmd, "longest time to wait; elapsed: exit code 5", "only look: exit code 5 if somebody holds it")
	return cmd
}

func (a *app) barrierAwaitCommand() *cobra.Command {
	f := newWaitFlags()
	var count int
	cmd := &cobra.Command{
		Use:   "await NAME --count N [flags] [-- COMMAND [argument...]]",
		Short: "Wait until a latch has counted down to zero",
		Long: `await waits until N operations were counted at the latch NAME, by conclave barrier
countdown or another program, and ends, or becomes the command. All who use the latch
must give the same N. A latch at zero stays there until conclave barrier reset.

Exit codes of its own: 5 --wait elapsed, with --no-wait it is not at zero, or it is in
use with another N.`,
		Example: `  conclave barrier await loaded --count 10 -- ./report.sh
  conclave barrier await loaded --count 10 --no-wait && echo "all loaded"`,
		Args: maybeCommandArgs("conclave barrier await loaded --count 10 -- ./report.sh"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCount(cmd, "count", count); err != nil {
				return err
			}
			if err := f.checkWait(); err != nil {
				return err
			}
			return a.pass(cmd.Context(), args[0], args[1:], f,
				func(ctx context.Context, b barrierv1.BarrierServiceClient, namespace string, wait *durationpb.Duration) error {
					_, err := b.Await(ctx, &barrierv1.AwaitRequest{Namespace: namespace, Name: args[0], Count: int32(count), Wait: wait}) //nolint:gosec // at most 10,000
					return err
				})
		},
	}
	cmd.Flags().IntVar(&count, "count", 0, "how many operations open the latch, 1 to 10000")
	f.register(cmd, "longest time to wait; elapsed: exit code 5", "only look: exit code 5 if it is not at zero")
	return cmd
}

// pass waits, and becomes the command, if there is one.
func (a *app) pass(ctx context.Context, name string, argv []string, f waitFlags, call doorway) error {
	program, err := a.commandConfig(argv)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, ending()...)
	defer signal.Stop(signals)
	ctx, done := heeding(ctx, signals)
	defer done()
	err = a.withBarrier(ctx, name, 0, func(ctx context.Context, t target, b barriers) error {
		if err := b.Reach(ctx); err != nil {
			return err
		}
		var wait *durationpb.Duration
		if f.wait.set || f.noWait {
			wait = durationpb.New(f.wait.value)
		}
		err := b.Wait(ctx, wait, func(cc grpc.ClientConnInterface, left *durationpb.Duration) error {
			return call(ctx, b.client(cc), a.namespace(t), left)
		})
		if refusal := barrierRefused(name, err); refusal != nil {
			return refusal
		}
		return err
	})
	if told, ok := errors.AsType[signalError](context.Cause(ctx)); ok {
		return exitError(128 + int(told.sig))
	}
	if err != nil || len(argv) == 0 {
		return err
	}
	err = supervise.Become(program.Path, argv, a.environ)
	if start, ok := errors.AsType[*supervise.StartError](err); ok {
		return notRunnable(start.Path, start.Err)
	}
	return err
}

func (a *app) barrierCountDownCommand() *cobra.Command {
	var count int
	var operation string
	cmd := &cobra.Command{
		Use:   "countdown NAME --count N",
		Short: "Count an operation at a latch",
		Long: `countdown counts one of N operations at the latch NAME, and prints how many are left.
All who use the latch must give the same N. What was counted stays counted, whoever
dies. At zero it does nothing.

An operation with an --id counts once, however often it is repeated: say one if you
repeat the command after a failure. Without it every countdown is another operation.`,
		Example: `  conclave barrier countdown loaded --count 10
  conclave barrier countdown loaded --count 10 --id "$(hostname)"`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCount(cmd, "count", count); err != nil {
				return err
			}
			if err := checkOperation(cmd, operation); err != nil {
				return err
			}
			if operation == "" {
				operation = rand.Text()
			}
			return a.withBarrier(cmd.Context(), args[0], answering, func(ctx context.Context, t target, b barriers) error {
				// It may be repeated: the operation has a name.
				resp, err := ask(ctx, b, barrierv1.BarrierServiceClient.CountDown, &barrierv1.CountDownRequest{
					Namespace: a.namespace(t), Name: args[0], Count: int32(count), Operation: operation, //nolint:gosec // at most 10,000
				})
				if err != nil {
					return err
				}
				left := int(resp.GetRemaining())
				return a.print(map[string]any{"name": args[0], "remaining": left}, [][]string{{strconv.Itoa(left)}})
			})
		},
	}
	cmd.Flags().IntVar(&count, "count", 0, "how many operations open the latch, 1 to 10000")
	cmd.Flags().StringVar(&operation, "id", "", "the operation: the same one counts once")
	return cmd
}

func checkOperation(cmd *cobra.Command, id string) error {
	if cmd.Flags().Changed("id") && id == "" {
		return usage("invalid_id", "", "--id: is empty")
	}
	if err := keyspace.CheckText("--id", id, maxOperation); err != nil {
		return usage("invalid_id", "", "%s", err)
	}
	return nil
}

func (a *app) barrierResetCommand() *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:   "reset NAME --count N",
		Short: "Let a latch at zero count down from N again",
		Long: `reset closes the latch NAME, which is at zero, again: it then counts down from N. What
was counted before is forgotten. A latch that still counts is left alone: exit code 5.`,
		Example: `  conclave barrier reset loaded --count 10`,
		Args:    exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkCount(cmd, "count", count); err != nil {
				return err
			}
			return a.withBarrier(cmd.Context(), args[0], answering, func(ctx context.Context, t target, b barriers) error {
				_, err := act(ctx, b, barrierv1.BarrierServiceClient.Reset, &barrierv1.ResetRequest{
					Namespace: a.namespace(t), Name: args[0], Count: int32(count), //nolint:gosec // at most 10,000
				})
				return err
			})
		},
	}
	cmd.Flags().IntVar(&count, "count", 0, "how many operations open the latch, 1 to 10000")
	return cmd
}
