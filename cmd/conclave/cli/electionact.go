package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
)

const maxTo = 255

func (a *app) electionTransferCommand() *cobra.Command {
	var to string
	var token int64
	cmd := &cobra.Command{
		Use:   "transfer NAME --to OWNER",
		Short: "Hand the leadership to one who stands",
		Long: `transfer asks the leader of NAME to step down in favour of OWNER, who stands for the
election: an owner, or an id, as conclave election contenders shows them; of several
with one owner it is the first in line. A command under conclave election run gets
TERM, and KILL after its grace (at most 10s); then OWNER leads, whatever its place
and priority. transfer returns when it does.

Nobody leads, or nobody of that name stands: exit code 3, and nothing has changed. If
OWNER is gone before the leader has stepped down, the next in line leads: exit code 5.`,
		Example: `  conclave election transfer scheduler --to web-2-4711
  conclave election transfer scheduler --to "$(conclave election contenders scheduler -o json | jq -r '.[1].id')"`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkTransfer(args[0], to, token); err != nil {
				return err
			}
			return a.withElection(cmd.Context(), args[0], answering, func(ctx context.Context, t target, e elections) error {
				req := &electionv1.TransferRequest{Namespace: a.namespace(t), Name: args[0], To: to, Token: token, By: a.operator(t)}
				if _, err := act(ctx, e, electionv1.ElectionServiceClient.Transfer, req); err != nil {
					return a.meant(ctx, t, e, args[0], to, err)
				}
				return a.print(map[string]string{"name": args[0], "to": to}, [][]string{{clean(args[0]), clean(to)}})
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "owner or id of the one who shall lead")
	cmd.Flags().Int64Var(&token, "token", 0, "only if the term with this token stands")
	return cmd
}

func checkTransfer(name, to string, token int64) error {
	switch {
	case to == "":
		return usage("invalid_to", fmt.Sprintf("see who stands with: conclave election contenders %s", quoted(name)), "--to is missing: say who shall lead")
	case token < 0:
		return usage("invalid_token", "", "--token: %d is negative", token)
	}
	if err := keyspace.CheckText("--to", to, maxTo); err != nil {
		return usage("invalid_to", "", "%s", err)
	}
	return nil
}

// meant adds to the refusal of a contender the one that may have been meant.
func (a *app) meant(ctx context.Context, t target, e elections, name, to string, err error) error {
	refusal := describe(whoStands(explain(ctx, t, err), name))
	if refusal.Reason != "not_found" {
		return refusal
	}
	resp, err := ask(ctx, e, electionv1.ElectionServiceClient.Contenders, &electionv1.ContendersRequest{Namespace: a.namespace(t), Name: name})
	if err != nil {
		return refusal // which matters more
	}
	var owners []string
	for _, c := range resp.GetCandidates() {
		owners = append(owners, c.GetOwner())
	}
	if hint := didYouMean(to, owners, ""); hint != "" {
		refusal.Hint = hint
	}
	return refusal
}

func (a *app) electionResignCommand() *cobra.Command {
	f := forceFlags{
		noun: "election", again: "conclave election resign %s --force --reason '...'",
		needs: "is led by another: to end its term needs --force", reader: "the leader",
	}
	cmd := &cobra.Command{
		Use:   "resign NAME --force --reason TEXT",
		Short: "End the term of whoever leads",
		Long: `resign tells the leader of NAME to step down, and why, leaves it its grace (at most
10s), and lets the first in line lead. It prints the token that was revoked. A command
under conclave election run gets TERM, and KILL after its grace, and its run stands
again at the end of the line.

A leader that does not listen goes on: only a check of the token by what it acts on
protects from it. A leader resigns by itself when its command ends, so this is for an
operator, and needs --force. To say who is next use conclave election transfer.`,
		Example: `  conclave election resign scheduler --force --reason "hangs since 3 a.m., see INC-42"
  conclave election resign scheduler --force --reason hangs --token 4718592   # only this term`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(args[0]); err != nil {
				return err
			}
			return a.withElection(cmd.Context(), args[0], answering, func(ctx context.Context, t target, e elections) error {
				resp, err := act(ctx, e, electionv1.ElectionServiceClient.ForceResign, &electionv1.ForceResignRequest{
					Namespace: a.namespace(t), Name: args[0], Reason: f.reason, Token: f.token, By: a.operator(t),
				})
				switch {
				case err != nil:
					return err
				case resp.GetToken() == 0:
					return whoStands(&Error{Exit: ExitNotFound, Code: "not_found", Reason: "not_found",
						Message: fmt.Sprintf("election %q: nobody leads", args[0])}, args[0])
				}
				return a.printRevoked(args[0], resp.GetToken())
			})
		},
	}
	f.register(cmd)
	return cmd
}
