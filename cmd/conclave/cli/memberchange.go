package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
)

func (a *app) memberAddCommand() *cobra.Command {
	var voter bool
	cmd := &cobra.Command{
		Use:   "add PEER-URL",
		Short: "Give a new member a place",
		Long: `add has the cluster count a member at PEER-URL before it is started: as a learner, which
takes part in no vote until it is promoted. A host that is started with --join on that
address takes the place and promotes itself. With --voter it is counted as a voter at
once: that endangers the majority until it runs.

etcd takes nobody in during its first five seconds; add then tries again.`,
		Example: "  conclave member add http://10.0.0.4:2380",
		Args:    exactly(1, "PEER-URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkPeerURL(args[0]); err != nil {
				return err
			}
			return a.withMembers(cmd.Context(), func(ctx context.Context, m *members) error {
				if voter {
					if text := gainOf(m.all); text != "" {
						return refuse(text, "start the members that are down first, or leave out --voter")
					}
				}
				added, err := m.add(ctx, args[0], voter)
				if err != nil {
					return err
				}
				a.note(m.howToStart(args[0], ""))
				return a.print(added, [][]string{{added.ID}})
			})
		},
	}
	cmd.Flags().BoolVar(&voter, "voter", false, "count it as a voter at once")
	return cmd
}

func checkPeerURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Port() == "" || strings.Trim(u.Path, "/") != "" {
		return usage("invalid_peer-url", "such as http://10.0.0.4:2380", "PEER-URL: %q is not http://host:port or https://host:port", s)
	}
	return nil
}

func (m *members) add(ctx context.Context, peer string, voter bool) (memberView, error) {
	add := m.client.MemberAddAsLearner
	if voter {
		add = m.client.MemberAdd
	}
	var resp *clientv3.MemberAddResponse
	err := m.persist(ctx, func(ctx context.Context) (err error) {
		resp, err = add(ctx, []string{peer})
		return err
	})
	switch {
	case errors.Is(err, rpctypes.ErrPeerURLExist), errors.Is(err, rpctypes.ErrMemberExist):
		return memberView{}, &Error{Exit: ExitNotAcquired, Code: "already_exists", Reason: "conflict", cause: err,
			Message: "there is a member at " + peer, Hint: "see conclave member ls; a host that lost its data needs: conclave member replace"}
	case err != nil:
		return memberView{}, err
	}
	return memberViewOf(&hostv1.Member{Id: strconv.FormatUint(resp.Member.ID, 16), PeerUrls: resp.Member.PeerURLs, Learner: resp.Member.IsLearner}), nil
}

// howToStart is the command line that takes the place.
func (m *members) howToStart(peer, name string) string {
	_, addr, _ := strings.Cut(peer, "://")
	first, _, _ := strings.Cut(m.asked, ",")
	return fmt.Sprintf("start it with an empty data directory: conclave serve --name %s --join %s --peer-addr %s --data-dir DIR", firstOf(name, "NAME"), first, addr)
}

func (a *app) memberPromoteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "promote MEMBER",
		Short: "Make a learner a voter",
		Long: `promote gives a learner a vote, when it has caught up with the others; until then it
tries again. MEMBER is a name or an id of member ls. A host that was started with --join
promotes itself.`,
		Example: "  conclave member promote host-4",
		Args:    exactly(1, "MEMBER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withMembers(cmd.Context(), func(ctx context.Context, m *members) error {
				one, id, err := m.chosen(args[0])
				if err != nil {
					return err
				}
				if !one.GetLearner() {
					return refuse(args[0]+" is a voter already", "")
				}
				return m.persist(ctx, func(ctx context.Context) error {
					_, err := m.client.MemberPromote(ctx, id)
					return err
				})
			})
		},
	}
}

func (a *app) memberRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove MEMBER",
		Short: "Take a member out of the cluster",
		Long: `remove takes a member out for good: its host ends, and its data are of no use any more.
It refuses what would leave the others without a majority. MEMBER is a name or an id of
member ls.`,
		Example: "  conclave member remove host-3",
		Args:    exactly(1, "MEMBER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withMembers(cmd.Context(), func(ctx context.Context, m *members) error {
				one, id, err := m.chosen(args[0])
				if err != nil {
					return err
				}
				return m.remove(ctx, one, id)
			})
		},
	}
}

// chosen is find, with the id as etcd takes it.
func (m *members) chosen(wanted string) (*hostv1.Member, uint64, error) {
	one, err := m.find(wanted)
	if err != nil {
		return nil, 0, err
	}
	id, err := strconv.ParseUint(one.GetId(), 16, 64)
	return one, id, err
}

// remove takes a member out, if the others can do without it. One that leads hands
// over first.
func (m *members) remove(ctx context.Context, one *hostv1.Member, id uint64) error {
	if text := lossOf(m.all, one); text != "" {
		return refuse(text, "start the members that are down first, or add others")
	}
	if one.GetLeader() {
		m.moveLeader(ctx, one)
	}
	err := m.persist(ctx, func(ctx context.Context) error {
		_, err := m.client.MemberRemove(ctx, id)
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return nil // a try before this one has done it
		}
		return err
	})
	if errors.Is(err, rpctypes.ErrMemberNotEnoughStarted) {
		return refuse("etcd refuses: too few members have been started for another to leave", "")
	}
	return err
}

// moveLeader has another member lead. If it cannot, an election does.
func (m *members) moveLeader(ctx context.Context, from *hostv1.Member) {
	for _, to := range m.all {
		id, err := strconv.ParseUint(to.GetId(), 16, 64)
		if err != nil || to == from || to.GetLearner() || !to.GetHealthy() {
			continue
		}
		at := m.at
		at.endpoints = from.GetClientUrls() // a leader alone gives its place away
		c, err := m.app.dial(ctx, at)
		if err != nil {
			return
		}
		_, err = c.MoveLeader(ctx, id)
		_ = c.Close()
		if err == nil {
			return
		}
	}
}

func (a *app) memberReplaceCommand() *cobra.Command {
	var peer string
	cmd := &cobra.Command{
		Use:   "replace MEMBER",
		Short: "Give the place of a member that is lost to a new one",
		Long: `replace takes a member out and gives its place to a new one, which starts with an empty
data directory: on the same address, or with --peer-url on another. It refuses if the
others would be without a majority meanwhile. MEMBER is a name or an id of member ls.

A member that is well and moves to another machine has no need of it: start the new one
with conclave serve --join, then remove the old one.`,
		Example: `  conclave member replace host-2
  conclave member replace host-2 --peer-url http://10.0.0.5:2380`,
		Args: exactly(1, "MEMBER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if peer != "" {
				if err := checkPeerURL(peer); err != nil {
					return err
				}
			}
			return a.withMembers(cmd.Context(), func(ctx context.Context, m *members) error { return m.replace(ctx, args[0], peer) })
		},
	}
	cmd.Flags().StringVar(&peer, "peer-url", "", "where the new one is (default: where the old one was)")
	return cmd
}

func (m *members) replace(ctx context.Context, wanted, peer string) error {
	old, id, err := m.chosen(wanted)
	if err != nil {
		return err
	}
	if peer == "" {
		if len(old.GetPeerUrls()) == 0 {
			return refuse(wanted+" has no address", "name one with --peer-url")
		}
		peer = old.GetPeerUrls()[0]
	}
	if err := m.remove(ctx, old, id); err != nil {
		return err
	}
	added, err := m.add(ctx, peer, false)
	if err != nil {
		e := *describe(err)
		e.Message = fmt.Sprintf("%s was removed, but the new one has no place: %s", wanted, e.Message)
		e.Hint = "conclave member add " + peer
		return &e
	}
	a := m.app
	a.note(m.howToStart(peer, old.GetName()))
	return a.print(added, [][]string{{added.ID}})
}

func refuse(text, hint string) *Error {
	return &Error{Exit: ExitNotAcquired, Code: "failed_precondition", Reason: "would_lose_quorum", Message: text, Hint: hint}
}

// voters counts those who vote, and those of them who answer.
func voters(all []*hostv1.Member) (n, healthy int) {
	for _, m := range all {
		if !m.GetLearner() {
			n++
			if m.GetHealthy() {
				healthy++
			}
		}
	}
	return n, healthy
}

// lossOf says why a member cannot be spared; "" if it can.
func lossOf(all []*hostv1.Member, gone *hostv1.Member) string {
	n, healthy := voters(all)
	name := firstOf(gone.GetName(), gone.GetId())
	switch {
	case healthy < n/2+1:
		return fmt.Sprintf("%d of %d voters answer, and %d are needed for any change", healthy, n, n/2+1)
	case gone.GetLearner():
		return ""
	case n == 1:
		return name + " is the only voter: without it there is no cluster"
	}
	left := healthy
	if gone.GetHealthy() {
		left--
	}
	if need := (n-1)/2 + 1; left < need {
		return fmt.Sprintf("without %s, %d of the other %d voters would answer, and %d are needed", name, left, n-1, need)
	}
	return ""
}

// gainOf says why another voter that does not run yet is too many; "" if it is not.
func gainOf(all []*hostv1.Member) string {
	n, healthy := voters(all)
	if need := (n+1)/2 + 1; healthy < need {
		return fmt.Sprintf("with one more voter %d of %d would answer until it runs, and %d are needed", healthy, n+1, need)
	}
	return ""
}
