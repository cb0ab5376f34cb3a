package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
)

// leaderView is who leads, as `election leader` prints it. A token is text: programs
// that read numbers as floating point would round it.
type leaderView struct {
	Name    string     `json:"name"`
	Owner   string     `json:"owner"`
	Value   string     `json:"value"`
	Token   string     `json:"token"`
	Since   *time.Time `json:"since"`
	Zone    string     `json:"zone,omitempty"`
	Host    string     `json:"host,omitempty"` // of a program that used the Go library, as PID
	PID     int32      `json:"pid,omitempty"`
	Asked   bool       `json:"steppingDown,omitempty"` // to step down
	AskedBy string     `json:"askedBy,omitempty"`
}

func (a *app) electionLeaderCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "leader NAME",
		Short: "Show who leads",
		Long: `leader shows who leads election NAME: name, owner, value, token, since. Nobody: exit
code 3.

It may be another one a moment later. Whoever acts on it passes the token on, and
what is acted on refuses a smaller one than it has seen.`,
		Example: `  conclave election leader scheduler
  conclave election leader scheduler -o json | jq -r .value`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withElection(cmd.Context(), args[0], answering, func(ctx context.Context, t target, e elections) error {
				resp, err := ask(ctx, e, electionv1.ElectionServiceClient.Leader, &electionv1.LeaderRequest{Namespace: a.namespace(t), Name: args[0]})
				if err != nil {
					return whoStands(err, args[0])
				}
				return a.printLeader(args[0], resp.GetLeaders())
			})
		},
	}
}

// printLeader prints who leads: of several all in a table, and in a document the one
// who has led longest.
func (a *app) printLeader(name string, leaders []*electionv1.Leader) error {
	var views []leaderView
	var rows [][]string
	for _, l := range leaders {
		d := l.GetStepDown()
		v := leaderView{Name: name, Owner: l.GetOwner(), Value: l.GetValue(), Token: tokenText(l.GetToken()), Since: timeOf(l.GetSince()),
			Zone: l.GetZone(), Host: l.GetHost(), PID: l.GetPid(), Asked: d != nil, AskedBy: d.GetBy()}
		views = append(views, v)
		rows = append(rows, []string{clean(name), clean(v.Owner), clean(v.Value), v.Token, a.when(l.GetSince())})
	}
	if isTerminal(a.stdout) {
		rows = append([][]string{{"NAME", "OWNER", "VALUE", "TOKEN", "SINCE"}}, rows...)
	}
	return a.print(views[0], rows)
}

// electionView is an election as `election ls` prints it. Since and ttl are null
// while nobody leads.
type electionView struct {
	Name       string     `json:"name"`
	Owner      string     `json:"owner"`
	Value      string     `json:"value"`
	Token      string     `json:"token"`
	Since      *time.Time `json:"since"`
	TTL        *string    `json:"ttl"`
	Candidates int32      `json:"candidates"`
	Leaders    int32      `json:"leaders"`
	Seats      int32      `json:"seats"`
}

func (a *app) electionListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List the elections in which somebody leads or stands",
		Long: `ls lists the elections in which somebody leads or stands, those whose name begins
with PREFIX. The columns are name, owner, value, token, since, time to live without a
renewal, candidates: how many stand beside the leader.`,
		Example: `  conclave election ls
  conclave election ls jobs/
  conclave election ls -o json | jq -r '.[] | select(.owner == "") | .name'   # nobody leads`,
		Args: atMostOne("PREFIX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := strings.Join(args, "")
			return a.withElections(cmd.Context(), answering, func(ctx context.Context, t target, e elections) error {
				all, err := allElections(ctx, e, a.namespace(t), prefix)
				if err != nil {
					return err
				}
				return a.printElections(all)
			})
		},
	}
}

func (a *app) printElections(all []*electionv1.Election) error {
	views, rows := []electionView{}, [][]string{}
	for _, e := range all {
		v := electionView{Name: e.GetName(), Owner: e.GetOwner(), Value: e.GetValue(), Token: tokenText(e.GetToken()), Since: timeOf(e.GetSince()),
			TTL: spanOf(e.GetTtl()), Candidates: e.GetCandidates(), Leaders: e.GetLeaderCount(), Seats: e.GetSeats()}
		views = append(views, v)
		rows = append(rows, []string{clean(v.Name), clean(v.Owner), clean(v.Value), v.Token, a.when(e.GetSince()), lifetime(e.GetTtl()),
			strconv.Itoa(int(v.Candidates))})
	}
	return a.printList(views, []string{"NAME", "OWNER", "VALUE", "TOKEN", "SINCE", "TTL", "CANDIDATES"}, rows)
}

// contenderView is one who leads or stands.
type contenderView struct {
	Owner    string     `json:"owner"`
	Leads    bool       `json:"leads"`
	Priority int32      `json:"priority"`
	Since    *time.Time `json:"since"`
	TTL      *string    `json:"ttl"`
	Value    string     `json:"value"`
	Token    string     `json:"token"` // empty for who does not lead
	Zone     string     `json:"zone,omitempty"`
	Purpose  string     `json:"purpose,omitempty"`
	ID       string     `json:"id"`
	Host     string     `json:"host,omitempty"` // of a program that used the Go library, as PID
	PID      int32      `json:"pid,omitempty"`
}

func (a *app) electionContendersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "contenders NAME",
		Short: "Show who leads and who stands, the next one first",
		Long: `contenders shows who leads election NAME and who stands, in the order in which they
would lead. The columns are owner, leads or stands, priority, since, time to live
without a renewal, value, id.`,
		Example: `  conclave election contenders scheduler
  conclave election contenders scheduler -o json | jq -r '.[1].owner'   # who is next`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withElection(cmd.Context(), args[0], answering, func(ctx context.Context, t target, e elections) error {
				resp, err := ask(ctx, e, electionv1.ElectionServiceClient.Contenders, &electionv1.ContendersRequest{Namespace: a.namespace(t), Name: args[0]})
				if err != nil {
					return err
				}
				return a.printContenders(resp)
			})
		},
	}
}

func (a *app) printContenders(resp *electionv1.ContendersResponse) error {
	views, rows := []contenderView{}, [][]string{}
	for _, l := range resp.GetLeaders() {
		v := contenderView{Owner: l.GetOwner(), Leads: true, Since: timeOf(l.GetSince()), TTL: spanOf(l.GetTtl()), Value: l.GetValue(),
			Token: tokenText(l.GetToken()), Zone: l.GetZone(), Purpose: l.GetPurpose(), ID: l.GetId(), Host: l.GetHost(), PID: l.GetPid()}
		how := "leads"
		if l.GetStepDown() != nil {
			how = "steps down"
		}
		views = append(views, v)
		rows = append(rows, []string{clean(v.Owner), how, "-", a.when(l.GetSince()), lifetime(l.GetTtl()), clean(v.Value), v.ID})
	}
	for _, c := range resp.GetCandidates() {
		v := contenderView{Owner: c.GetOwner(), Priority: c.GetPriority(), Since: timeOf(c.GetSince()), TTL: spanOf(c.GetTtl()), Value: c.GetValue(),
			Zone: c.GetZone(), Purpose: c.GetPurpose(), ID: c.GetId(), Host: c.GetHost(), PID: c.GetPid()}
		views = append(views, v)
		rows = append(rows, []string{clean(v.Owner), "stands", strconv.Itoa(int(v.Priority)), a.when(c.GetSince()), lifetime(c.GetTtl()), clean(v.Value), v.ID})
	}
	return a.printList(views, []string{"OWNER", "", "PRIORITY", "SINCE", "TTL", "VALUE", "ID"}, rows)
}

// termView is a term that has ended, as `election history` prints it.
type termView struct {
	Owner      string     `json:"owner"`
	Token      string     `json:"token"`
	Since      *time.Time `json:"since"`
	Until      *time.Time `json:"until"`
	Led        *string    `json:"led"`
	AtLatest   bool       `json:"untilIsBound,omitempty"` // it may have ended earlier
	Cause      string     `json:"cause"`
	By         string     `json:"by,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	Value      string     `json:"value"`
	Host       string     `json:"host,omitempty"` // of a program that used the Go library, as PID
	PID        int32      `json:"pid,omitempty"`
	HandedOver bool       `json:"handedOver,omitempty"`
}

func (a *app) electionHistoryCommand() *cobra.Command {
	var limit int32
	cmd := &cobra.Command{
		Use:   "history NAME",
		Short: "Show who led, for how long, and why each term ended",
		Long: `history shows the terms of NAME that have ended, newest first. Hosts write them down,
also those of programs that use the Go library. Where no host was up to see what
happened it says so. The columns are owner, token, since, until, led, cause, who
ended it and why, value.`,
		Example: `  conclave election history scheduler
  conclave election history scheduler --limit 5 -o json`,
		Args: exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withElection(cmd.Context(), args[0], answering, func(ctx context.Context, t target, e elections) error {
				resp, err := ask(ctx, e, electionv1.ElectionServiceClient.History,
					&electionv1.HistoryRequest{Namespace: a.namespace(t), Name: args[0], Limit: limit})
				if err != nil {
					return err
				}
				return a.printTerms(t, resp)
			})
		},
	}
	cmd.Flags().Int32Var(&limit, "limit", 0, "at most so many; 0: all that are kept")
	return cmd
}

func (a *app) printTerms(t target, resp *electionv1.HistoryResponse) error {
	views, rows := []termView{}, [][]string{}
	for _, e := range resp.GetTerms() {
		v := termView{Owner: e.GetOwner(), Token: tokenText(e.GetToken()), Since: timeOf(e.GetSince()), Until: timeOf(e.GetUntil()),
			Led: spanOf(e.GetLed()), AtLatest: e.GetUntilIsBound(), Cause: e.GetCause(), By: e.GetBy(), Reason: e.GetReason(),
			Value: e.GetValue(), Host: e.GetHost(), PID: e.GetPid(), HandedOver: e.GetHandedOver()}
		views = append(views, v)
		rows = append(rows, []string{clean(v.Owner), v.Token, a.when(e.GetSince()), a.when(e.GetUntil()), atMost(e.GetLed(), v.AtLatest),
			v.Cause, byAndWhy(v.By, v.Reason), clean(v.Value)})
	}
	noteGaps(a, t, len(views), resp.GetGaps())
	return a.printList(views, []string{"OWNER", "TOKEN", "SINCE", "UNTIL", "LED", "CAUSE", "BY", "VALUE"}, rows)
}
