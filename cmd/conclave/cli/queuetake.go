package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/core"
)

// takenView is an item as `queue take` prints it.
type takenView struct {
	ID         string     `json:"id"`
	Value      string     `json:"value"`
	Data       []byte     `json:"data,omitempty"`
	Attempt    int        `json:"attempt"`
	EnqueuedAt *time.Time `json:"enqueuedAt"`
	Priority   int        `json:"priority"`
	Group      string     `json:"group"`
	Reason     string     `json:"reason"`
}

func (a *app) queueTakeCommand() *cobra.Command {
	f := newWaitFlags()
	t := defaultTenure()
	cmd := &cobra.Command{
		Use:   "take NAME",
		Short: "Take one item out of a queue and print it",
		Long: `take waits for an item of the queue NAME, prints its value, byte for byte, and acks it.
What cannot be printed is not acked, and goes back to the front of the queue; so it does
when take is killed, or ends with another code than 0. Once take has ended with 0 the
item is gone, whatever becomes of what was printed: to have an item again whose work
failed use conclave queue work.

Exit codes of its own: 5 --wait elapsed, or with --no-wait nothing can be delivered now;
8 it was printed, and it is not known whether it comes again.`,
		Example: `  conclave queue take thumbnails
  image=$(conclave queue take thumbnails --wait 10s) || exit
  conclave queue take thumbnails --no-wait -o json | jq .attempt`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.checkWait(); err != nil {
				return err
			}
			return a.queueTake(cmd.Context(), args[0], f, t)
		},
	}
	f.register(cmd, "longest time to wait for an item; elapsed: exit code 5", "only look: exit code 5 if nothing can be delivered now")
	return cmd
}

func (a *app) queueTake(ctx context.Context, name string, f waitFlags, t tenure) error {
	j, err := a.newJob("queue", name, nil, t)
	if err != nil {
		return err
	}
	var d *delivery
	j.own = func(ctx context.Context, s session) (*owned, error) {
		all, err := s.(consumer).take(ctx, name, 1, taking{waitFlags: f})
		if err != nil {
			return nil, err
		}
		d = all[0]
		// What held has not acked goes back with the session.
		return &owned{context: d.owned, token: d.token, release: func() error { return nil }}, nil
	}
	j.refused = func(err error) *Error { return queueRefused(name, err) }
	j.held = func(*owned) error {
		if err := a.printTaken(d); err != nil {
			return err
		}
		return ackTaken(ctx, name, d)
	}
	defer j.listen()()
	return j.run(ctx).err
}

func (a *app) printTaken(d *delivery) error {
	if a.flags.output.value == outputTable {
		return a.printValue(d.payload)
	}
	v := takenView{ID: d.id, Attempt: d.attempt, EnqueuedAt: &d.enqueued, Priority: d.priority, Group: d.group, Reason: d.reason}
	v.Value, v.Data = textOrData(d.payload)
	return a.print(v, nil)
}

func ackTaken(ctx context.Context, name string, d *delivery) error {
	ctx, cancel := context.WithTimeoutCause(ctx, releasing, errLeft)
	defer cancel()
	err := d.ack(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, core.ErrUnknownOutcome), ctx.Err() != nil:
		return &Error{Exit: ExitUnknown, Code: "unknown", Reason: "outcome_unknown", cause: err,
			Message: fmt.Sprintf("queue %q: item %s was printed, and it is not known whether it comes again", name, d.id)}
	case isStale(err):
		return &Error{Exit: ExitFailed, Code: "failed_precondition", Reason: "stale_delivery", cause: err,
			Message: fmt.Sprintf("queue %q: item %s was printed too late, and comes again", name, d.id)}
	}
	return err
}
