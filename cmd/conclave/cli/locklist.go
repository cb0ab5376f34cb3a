package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// lockView is a lock as `lock ls` prints it. Since and ttl are null while nobody
// holds the lock. A token is text: programs that read numbers as floating point
// would round it.
type lockView struct {
	Name    string     `json:"name"`
	Kind    string     `json:"kind"`
	Owner   string     `json:"owner"`
	Token   string     `json:"token"`
	Since   *time.Time `json:"since"`
	TTL     *string    `json:"ttl"`
	Purpose string     `json:"purpose"`
	Waiters int32      `json:"waiters"`
	Holders int32      `json:"holders"`
}

func viewOf(l *lockv1.Lock) lockView {
	return lockView{Name: l.GetName(), Kind: l.GetKind(), Owner: l.GetOwner(), Token: tokenText(l.GetToken()), Since: timeOf(l.GetSince()),
		TTL: spanOf(l.GetTtl()), Purpose: l.GetPurpose(), Waiters: l.GetWaiters(), Holders: l.GetHolderCount()}
}

func (a *app) lockListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List the locks that are held or waited for",
		Long: `ls lists the locks that somebody holds or waits for, those whose name begins with
PREFIX. Of a lock with several holders it shows the one with the smallest token. The
columns are name, kind, owner, token, since, time to live without a renewal,
purpose, waiters.`,
		Example: `  conclave lock ls
  conclave lock ls jobs/
  conclave lock ls -o json | jq -r '.[] | select(.waiters > 0) | .name'`,
		Args: atMostOne("PREFIX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := strings.Join(args, "")
			return a.withLocks(cmd.Context(), func(ctx context.Context, t target, l locks) error {
				all, err := allLocks(ctx, l, a.namespace(t), prefix)
				if err != nil {
					return err
				}
				return a.printLocks(all)
			})
		},
	}
}

func (a *app) printLocks(all []*lockv1.Lock) error {
	views, rows := []lockView{}, [][]string{}
	for _, l := range all {
		v := viewOf(l)
		views = append(views, v)
		rows = append(rows, []string{clean(v.Name), v.Kind, clean(v.Owner), v.Token, a.when(l.GetSince()), lifetime(l.GetTtl()),
			clean(v.Purpose), strconv.Itoa(int(v.Waiters))})
	}
	return a.printList(views, []string{"NAME", "KIND", "OWNER", "TOKEN", "SINCE", "TTL", "PURPOSE", "WAITERS"}, rows)
}

// atMostOne refuses more than one argument.
func atMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return exactly(1, what)(cmd, args)
		}
		return nil
	}
}

// endingView is an ownership that has ended, as `lock history` prints it.
type endingView struct {
	Owner      string     `json:"owner"`
	Token      string     `json:"token"`
	Kind       string     `json:"kind"`
	Since      *time.Time `json:"since"`
	Until      *time.Time `json:"until"`
	Held       *string    `json:"held"`
	AtLatest   bool       `json:"untilIsBound,omitempty"` // it may have ended earlier
	Cause      string     `json:"cause"`
	By         string     `json:"by,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	Purpose    string     `json:"purpose"`
	Host       string     `json:"host,omitempty"` // of a program that used the Go library, as PID
	PID        int32      `json:"pid,omitempty"`
	HandedOver bool       `json:"handedOver,omitempty"`
}

func (a *app) lockHistoryCommand() *cobra.Command {
	var limit int32
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "Show who held a lock, for how long, and why each ownership ended",
		Long: `history shows the ownerships of NAME that have ended, newest first. Hosts write them
down, also those of programs that use the Go library. Where no host was up to see
what happened it says so. The columns are owner, token, since, until, held, cause,
who forced it and why, purpose.`,
		Example: `  conclave lock history nightly
  conclave lock history nightly --limit 5 -o json`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := keyspace.CheckName("name", args[0]); err != nil {
				return usage("invalid_name", "", "%s", err)
			}
			return a.withLocks(cmd.Context(), func(ctx context.Context, t target, l locks) error {
				resp, err := ask(ctx, l, lockv1.LockServiceClient.History, &lockv1.HistoryRequest{Namespace: a.namespace(t), Name: args[0], Limit: limit})
				if err != nil {
					return err
				}
				return a.printHistory(t, resp)
			})
		},
	}
	cmd.Flags().Int32Var(&limit, "limit", 0, "at most so many; 0: all that are kept")
	return cmd
}

func (a *app) printHistory(t target, resp *lockv1.HistoryResponse) error {
	views, rows := []endingView{}, [][]string{}
	for _, e := range resp.GetEndings() {
		v := endingView{Owner: e.GetOwner(), Token: tokenText(e.GetToken()), Kind: e.GetMode(), Since: timeOf(e.GetSince()), Until: timeOf(e.GetUntil()),
			Held: spanOf(e.GetHeld()), AtLatest: e.GetUntilIsBound(), Cause: e.GetCause(), By: e.GetBy(), Reason: e.GetReason(),
			Purpose: e.GetPurpose(), Host: e.GetHost(), PID: e.GetPid(), HandedOver: e.GetHandedOver()}
		views = append(views, v)
		rows = append(rows, []string{clean(v.Owner), v.Token, a.when(e.GetSince()), a.when(e.GetUntil()),
			atMost(e.GetHeld(), v.AtLatest), v.Cause, byAndWhy(v.By, v.Reason), clean(v.Purpose)})
	}
	noteGaps(a, t, len(views), resp.GetGaps())
	return a.printList(views, []string{"OWNER", "TOKEN", "SINCE", "UNTIL", "HELD", "CAUSE", "BY", "PURPOSE"}, rows)
}
