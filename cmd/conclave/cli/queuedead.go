package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// sweeping bounds what is done with all dead letters of a queue.
const sweeping = 10 * time.Minute

func (a *app) queueDeadCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "dead",
		Short: "Show, put back or drop what failed too often",
		Example: `  conclave queue dead ls thumbnails
  conclave queue dead requeue thumbnails --all
  conclave queue dead drop thumbnails ID`,
	})
	cmd.AddCommand(a.queueDeadListCommand(), a.queueRequeueCommand(), a.queueDropCommand())
	return cmd
}

func (a *app) queueDeadListCommand() *cobra.Command {
	most := maxLook
	cmd := &cobra.Command{
		Use:   "ls NAME",
		Short: "Show the dead letters of a queue",
		Long: `ls shows the dead letters of the queue NAME: items that were delivered as often as they
may be and never acked, or rejected. The columns are id, attempts, when it was put,
priority, value, and why it is one.`,
		Example: `  conclave queue dead ls thumbnails
  conclave queue dead ls thumbnails -o json | jq -r '.[] | select(.reason | test("exit code 3")) | .id'`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkLook(most); err != nil {
				return err
			}
			return a.queueLook(cmd.Context(), args[0], most, true)
		},
	}
	cmd.Flags().IntVar(&most, "count", maxLook, "at most so many, 1 to 1000")
	return cmd
}

func (a *app) queueRequeueCommand() *cobra.Command {
	return a.queueDeadCommandOn(&cobra.Command{
		Use:   "requeue NAME [ID...] [--all]",
		Short: "Put dead letters back into the queue",
		Long: `requeue puts dead letters of the queue NAME back in front, with no attempts: those with
the ids, or all. It prints how many. None of the ids was there: exit code 3.`,
		Example: `  conclave queue dead requeue thumbnails --all
  conclave queue dead requeue thumbnails ID`,
	}, "requeued", func(ctx context.Context, t target, q queues, name string, ids []string) (int64, error) {
		resp, err := act(ctx, q, queuev1.QueueServiceClient.Requeue,
			&queuev1.RequeueRequest{Namespace: a.namespace(t), Name: name, Ids: ids, All: len(ids) == 0})
		return resp.GetRequeued(), err
	})
}

func (a *app) queueDropCommand() *cobra.Command {
	return a.queueDeadCommandOn(&cobra.Command{
		Use:   "drop NAME [ID...] [--all]",
		Short: "Delete dead letters",
		Long: `drop deletes dead letters of the queue NAME: those with the ids, or all. It prints how
many. None of the ids was there: exit code 3.`,
		Example: `  conclave queue dead drop thumbnails ID
  conclave queue dead drop thumbnails --all`,
	}, "dropped", func(ctx context.Context, t target, q queues, name string, ids []string) (int64, error) {
		resp, err := act(ctx, q, queuev1.QueueServiceClient.Drop,
			&queuev1.DropRequest{Namespace: a.namespace(t), Name: name, Ids: ids, All: len(ids) == 0})
		return resp.GetDropped(), err
	})
}

// queueDeadCommandOn makes a command that does something with some dead letters, or
// with all.
func (a *app) queueDeadCommandOn(cmd *cobra.Command, done string,
	do func(ctx context.Context, t target, q queues, name string, ids []string) (int64, error),
) *cobra.Command {
	var all bool
	cmd.Flags().BoolVar(&all, "all", false, "all that there are")
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return exactly(1, "NAME")(cmd, args)
		case all == (len(args) > 1):
			return usage("invalid_ids", "see which there are with: conclave queue dead ls "+quoted(args[0]), "give either ids or --all")
		}
		for _, id := range args[1:] {
			if err := keyspace.CheckText("ID", id, maxItemKey); err != nil || id == "" {
				return usage("invalid_ids", "", "ID: %q is none", id)
			}
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, ids := args[0], args[1:]
		return a.withQueue(cmd.Context(), name, sweeping, func(ctx context.Context, t target, q queues) error {
			n, err := do(ctx, t, q, name, ids)
			if err != nil {
				return err
			}
			if n == 0 && !all {
				return &Error{Exit: ExitNotFound, Code: "not_found", Reason: "not_found", Message: fmt.Sprintf("queue %q: there is no such dead letter", name),
					Hint: "see which there are with: conclave queue dead ls " + quoted(name)}
			}
			if missing := int64(len(ids)) - n; missing > 0 {
				a.note(fmt.Sprintf("queue %q: %d of %d were not there", name, missing, len(ids)))
			}
			return a.print(map[string]any{"name": name, done: n}, [][]string{{strconv.FormatInt(n, 10)}})
		})
	}
	return cmd
}
