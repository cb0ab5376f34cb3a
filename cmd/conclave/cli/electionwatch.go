package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
)

// How long to wait before an answer that stopped is asked for again.
const (
	askAgain     = 200 * time.Millisecond
	askAgainMost = 2 * time.Second
)

// changeView is who leads from one moment on, as `election watch` prints it.
type changeView struct {
	Name     string     `json:"name"`
	Owner    string     `json:"owner"`
	Value    string     `json:"value"`
	Token    string     `json:"token"`
	Since    *time.Time `json:"since"`
	Vacant   bool       `json:"vacant"`
	Gap      bool       `json:"gap,omitempty"` // terms may be missing before it
	Revision string     `json:"revision"`
}

func (a *app) electionWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch NAME",
		Short: "Follow who leads, term by term",
		Long: `watch prints who leads election NAME, and then every change: each term once and in
order, however short it was, and the vacancies between them, whose owner is -. It goes
on when hosts and etcd come and go. With -o json each line is one document. The
columns are owner, value, token, since.`,
		Example: `  conclave election watch scheduler
  conclave election watch scheduler -o json | jq --unbuffered -r 'select(.vacant | not) | .value'`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withElection(cmd.Context(), args[0], 0, func(ctx context.Context, t target, e elections) error {
				w := electionWatch{app: a, e: e, req: &electionv1.ObserveRequest{Namespace: a.namespace(t), Name: args[0]}}
				return w.run(ctx, t)
			})
		},
	}
}

// An electionWatch follows an election at one host after the other.
type electionWatch struct {
	*app
	e   elections
	req *electionv1.ObserveRequest // goes on behind what was printed

	printed int // lines
}

// run prints until ctx ends, or until there is no point in asking again.
func (w *electionWatch) run(ctx context.Context, t target) error {
	for wait := askAgain; ; {
		before := w.printed
		err := w.e.Do(ctx, func(cc grpc.ClientConnInterface) error { return w.follow(ctx, w.e.client(cc)) })
		// A host whose recipes are not there yet does not know the call.
		passes := describe(explain(ctx, t, err)).Exit == ExitUnavailable || status.Code(err) == codes.Unimplemented
		if ctx.Err() != nil || w.printed == 0 || !passes {
			return err
		}
		if w.printed != before {
			w.note(fmt.Sprintf("election %q: asking again: %s", w.req.GetName(), describe(explain(ctx, t, err)).Message))
			wait = askAgain
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		wait = min(2*wait, askAgainMost)
	}
}

// follow prints what one host tells, until it does not tell any more.
func (w *electionWatch) follow(ctx context.Context, at electionv1.ElectionServiceClient) error {
	stream, err := at.Observe(ctx, w.req)
	if err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := w.printChange(resp); err != nil {
			return err
		}
		w.req.AfterRevision = resp.GetRevision()
		w.printed++
	}
}

func (w *electionWatch) printChange(r *electionv1.ObserveResponse) error {
	v := changeView{Name: w.req.GetName(), Owner: r.GetOwner(), Value: r.GetValue(), Token: tokenText(r.GetToken()), Since: timeOf(r.GetSince()),
		Vacant: r.GetVacant(), Gap: r.GetGap(), Revision: tokenText(r.GetRevision())}
	if v.Gap && w.flags.output.value == outputTable {
		w.note(fmt.Sprintf("election %q: terms may be missing before the next line", v.Name))
	}
	owner := clean(v.Owner)
	switch {
	case v.Vacant && isTerminal(w.stdout):
		owner = "nobody leads"
	case v.Vacant:
		owner = "-"
	}
	return w.printItem(v, []string{owner, clean(v.Value), v.Token, w.when(r.GetSince())})
}
