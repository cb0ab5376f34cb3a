package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

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
		held := lifetime(e.GetHeld())
		if v.AtLatest {
			held = "at most " + held
		}
		by := clean(v.By)
		if v.Reason != "" {
			by = strings.TrimPrefix(by+": "+clean(v.Reason), ": ")
		}
		views = append(views, v)
		rows = append(rows, []string{clean(v.Owner), v.Token, a.when(e.GetSince()), a.when(e.GetUntil()), held, v.Cause, by, clean(v.Purpose)})
	}
	for _, g := range resp.GetGaps() {
		a.note(fmt.Sprintf("endings may be missing: no host saw revisions %d to %d of etcd", g.GetFromRevision(), g.GetToRevision()))
	}
	if len(views) == 0 && t.direct() {
		a.note("nothing is recorded: hosts write the history, and it is empty where none has run")
	}
	return a.printList(views, []string{"OWNER", "TOKEN", "SINCE", "UNTIL", "HELD", "CAUSE", "BY", "PURPOSE"}, rows)
}

func tokenText(token int64) string {
	if token == 0 {
		return ""
	}
	return strconv.FormatInt(token, 10)
}

func timeOf(ts *timestamppb.Timestamp) *time.Time {
	if ts == nil {
		return nil
	}
	t := ts.AsTime()
	return &t
}

// spanOf is a duration as the API's JSON has it: "15s", "1.500s".
func spanOf(d *durationpb.Duration) *string {
	if d == nil {
		return nil
	}
	s := strconv.FormatFloat(d.AsDuration().Seconds(), 'f', -1, 64) + "s"
	return &s
}

// when is a time for a table: how long ago for a person, exact for a program.
func (a *app) when(ts *timestamppb.Timestamp) string {
	switch {
	case ts == nil:
		return "-"
	case isTerminal(a.stdout):
		return ago(time.Since(ts.AsTime()))
	}
	return ts.AsTime().Format(time.RFC3339)
}

func ago(d time.Duration) string { return roughly(d) + " ago" }

// roughly is a duration as a person says it.
func roughly(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Hour:
		return short(d.Round(time.Second))
	case d < 48*time.Hour:
		return short(d.Round(time.Minute))
	}
	return strconv.Itoa(int(d.Hours())/24) + "d"
}

func lifetime(d *durationpb.Duration) string {
	if d == nil {
		return "-"
	}
	return roughly(d.AsDuration())
}

// clean takes out of a value from elsewhere what could speak to a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// quoted is a name as a shell takes it.
func quoted(s string) string {
	safe := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-./:@%+=,", r)
	}
	if s != "" && !strings.ContainsFunc(s, safe) && s[0] != '-' {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
