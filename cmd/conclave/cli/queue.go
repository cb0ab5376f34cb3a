package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
)

func (a *app) queueCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "queue",
		Short: "Hand out work that is not lost before it is done",
		Example: `  conclave queue put thumbnails '{"image":"cat.png"}'
  conclave queue work thumbnails --concurrency 4 -- ./thumbnail.sh   # gets it on its standard input
  conclave queue stats thumbnails
  conclave queue dead ls thumbnails                                  # what failed too often, and why
  conclave queue dead requeue thumbnails --all`,
	})
	cmd.AddCommand(a.queuePutCommand(), a.queueTakeCommand(), a.queueWorkCommand(), a.queuePeekCommand(), a.queueStatsCommand(),
		a.queueListCommand(), a.queuePauseCommand(), a.queueResumeCommand(), a.queueDeadCommand(), a.queueRemoveCommand())
	return cmd
}

func (a *app) queueListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List the queues",
		Long: `ls lists the queues into which anything was ever put, those whose name begins with
PREFIX. How much is in one says conclave queue stats.`,
		Example: `  conclave queue ls
  conclave queue ls images/ -o json | jq -r '.[].name'`,
		Args: atMostOne("PREFIX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withQueues(cmd.Context(), answering, func(ctx context.Context, t target, q queues) error {
				resp, err := ask(ctx, q, queuev1.QueueServiceClient.List, &queuev1.ListRequest{Namespace: a.namespace(t), Prefix: strings.Join(args, "")})
				if err != nil {
					return err
				}
				views, rows := []queueView{}, [][]string{}
				for _, name := range resp.GetNames() {
					views = append(views, queueView{name})
					rows = append(rows, []string{clean(name)})
				}
				return a.printList(views, []string{"NAME"}, rows)
			})
		},
	}
}

// queueView is a queue as `queue ls` prints it.
type queueView struct {
	Name string `json:"name"`
}

func (a *app) queuePauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pause NAME",
		Short: "Keep items from being delivered",
		Long: `pause keeps the items of the queue NAME from being delivered, to anybody, until conclave
queue resume: none is once pause has ended. What was delivered before goes on, and items
can be put.`,
		Example: `  conclave queue pause thumbnails`,
		Args:    exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withQueue(cmd.Context(), args[0], answering, func(ctx context.Context, t target, q queues) error {
				_, err := act(ctx, q, queuev1.QueueServiceClient.Pause, &queuev1.PauseRequest{Namespace: a.namespace(t), Name: args[0]})
				if err != nil {
					return err
				}
				return a.printPaused(args[0], true)
			})
		},
	}
}

func (a *app) queueResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "resume NAME",
		Short:   "Deliver items again",
		Long:    `resume ends a conclave queue pause of the queue NAME.`,
		Example: `  conclave queue resume thumbnails`,
		Args:    exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withQueue(cmd.Context(), args[0], answering, func(ctx context.Context, t target, q queues) error {
				_, err := act(ctx, q, queuev1.QueueServiceClient.Resume, &queuev1.ResumeRequest{Namespace: a.namespace(t), Name: args[0]})
				if err != nil {
					return err
				}
				return a.printPaused(args[0], false)
			})
		},
	}
}

func (a *app) printPaused(name string, paused bool) error {
	state := "resumed"
	if paused {
		state = "paused"
	}
	return a.print(map[string]any{"name": name, "paused": paused}, [][]string{{clean(name), state}})
}
