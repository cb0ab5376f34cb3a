package cli

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
)

// barrierView is a barrier as `barrier ls` prints it.
type barrierView struct {
	Name       string      `json:"name"`
	Kind       string      `json:"kind"`
	Phase      string      `json:"phase"`
	There      int32       `json:"there"`
	Parties    int32       `json:"parties"`
	Generation string      `json:"generation"`
	Members    []partyView `json:"members"`
}

// partyView is one who holds a barrier or came to one. A token is text: programs
// that read numbers as floating point would round it.
type partyView struct {
	Owner      string     `json:"owner"`
	Token      string     `json:"token"` // empty: it was lost, and broke the barrier
	Since      *time.Time `json:"since"`
	Purpose    string     `json:"purpose"`
	Persistent bool       `json:"persistent"`
	Host       string     `json:"host,omitempty"` // of a program that used the Go library, as PID
	PID        int32      `json:"pid,omitempty"`
}

func (a *app) barrierListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List the barriers and latches, and who is there",
		Long: `ls lists the barriers that somebody holds, and the phases and latches that were used,
those whose name begins with PREFIX. The columns are name, kind, phase, how many are
there or were counted, of how many, generation, who.`,
		Example: `  conclave barrier ls
  conclave barrier ls -o json | jq '.[] | select(.kind == "latch") | .parties - .there'`,
		Args: atMostOne("PREFIX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			prefix := strings.Join(args, "")
			return a.withBarriers(cmd.Context(), answering, func(ctx context.Context, t target, b barriers) error {
				all, err := allBarriers(ctx, b, a.namespace(t), prefix)
				if err != nil {
					return err
				}
				return a.printBarriers(all)
			})
		},
	}
}

func (a *app) printBarriers(all []*barrierv1.State) error {
	views, rows := []barrierView{}, [][]string{}
	for _, b := range all {
		v := barrierView{Name: b.GetName(), Kind: word(b.GetKind().String(), "KIND_"), Phase: word(b.GetPhase().String(), "PHASE_"), There: b.GetThere(),
			Parties: b.GetParties(), Generation: tokenText(b.GetGeneration()), Members: []partyView{}}
		var who []string
		for _, p := range b.GetMembers() {
			v.Members = append(v.Members, partyView{Owner: p.GetOwner(), Token: tokenText(p.GetToken()), Since: timeOf(p.GetSince()),
				Purpose: p.GetPurpose(), Persistent: p.GetPersistent(), Host: p.GetHost(), PID: p.GetPid()})
			who = append(who, clean(p.GetOwner())+whichParty(p))
		}
		views = append(views, v)
		rows = append(rows, []string{clean(v.Name), v.Kind, v.Phase, strconv.Itoa(int(v.There)), howMany(v.Parties), v.Generation, strings.Join(who, ", ")})
	}
	return a.printList(views, []string{"NAME", "KIND", "PHASE", "THERE", "OF", "GENERATION", "WHO"}, rows)
}

// howMany is empty for what a kind does not have.
func howMany(n int32) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

// whichParty says what is special about one.
func whichParty(p *barrierv1.Party) string {
	switch {
	case p.GetToken() == 0:
		return " (lost)"
	case p.GetPersistent():
		return " (persistent)"
	}
	return ""
}
