package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
)

func (a *app) queueRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove a queue",
		Long: `rm removes the queue NAME if it is empty and nobody consumes it; else it changes nothing,
says what is in it, and exits with 5. With --force everything in it is deleted first, dead
letters too: whoever works on an item is refused when it is done, and those who wait for
items go on waiting. It prints how many items and how many dead letters were deleted, also
when it ends with an error.

Who puts an item from then on makes the queue anew. What it remembered is forgotten: that
it was paused, and which ids were put.`,
		Example: `  conclave queue rm thumbnails
  conclave queue rm thumbnails --force`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			atMost := answering
			if force {
				atMost = sweeping
			}
			return a.withQueue(cmd.Context(), args[0], atMost, func(ctx context.Context, t target, q queues) error {
				resp, err := act(ctx, q, queuev1.QueueServiceClient.Remove,
					&queuev1.RemoveRequest{Namespace: a.namespace(t), Name: args[0], Force: force})
				if err != nil {
					return queueNotRemoved(args[0], force, err)
				}
				doc := map[string]any{"name": args[0], "items": resp.GetItems(), "dead": resp.GetDead()}
				return a.print(doc, [][]string{{clean(args[0]), strconv.FormatInt(resp.GetItems(), 10), strconv.FormatInt(resp.GetDead(), 10)}})
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "delete what is in it, whoever uses it")
	return cmd
}

// queueNotRemoved says what can be done about a queue that is not removed.
func queueNotRemoved(name string, force bool, err error) error {
	e := *describe(err)
	switch {
	case e.Exit == ExitNotFound:
		e.Hint = "see which there are with: conclave queue ls"
	case e.Exit == ExitNotAcquired && e.Reason == "conflict" && force:
		e.Hint = "stop those who put items, and say it again"
	case e.Exit == ExitTimeout && e.Reason == "timeout": // the host's, which tells what is deleted
		e.Hint = "say it again, with more time: --timeout"
	case e.Exit == ExitNotAcquired && e.Reason == "conflict":
		e.Hint = fmt.Sprintf("conclave queue rm %s --force deletes what is in it", quoted(name))
	default:
		return err
	}
	return &e
}
