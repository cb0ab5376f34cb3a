package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
)

// A memberView is a member, as member ls shows it.
type memberView struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Role       string   `json:"role"`  // leader, voter, learner
	State      string   `json:"state"` // healthy, unreachable, unstarted
	Error      string   `json:"error,omitempty"`
	Version    string   `json:"version,omitempty"`
	PeerURLs   []string `json:"peerUrls"`
	ClientURLs []string `json:"clientUrls"`
}

func memberViewOf(m *hostv1.Member) memberView {
	v := memberView{ID: m.GetId(), Name: m.GetName(), Role: "voter", State: "healthy", Error: m.GetError(), Version: m.GetVersion(),
		PeerURLs: m.GetPeerUrls(), ClientURLs: append([]string{}, m.GetClientUrls()...)}
	switch {
	case m.GetLearner():
		v.Role = "learner"
	case m.GetLeader():
		v.Role = "leader"
	}
	switch {
	case m.GetName() == "":
		v.State = "unstarted"
	case !m.GetHealthy():
		v.State = "unreachable"
	}
	return v
}

func (a *app) memberCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "member",
		Short: "See and change the members of etcd",
		Long: `member shows and changes who belongs to etcd's cluster. It finds etcd through a host,
or by --endpoints.

A host joins by itself with conclave serve --join; add is for when it cannot ask.`,
		Example: `  conclave member ls
  conclave member replace host-2             # its machine or its disk is lost
  conclave member remove host-3`,
	})
	cmd.AddCommand(a.memberListCommand(), a.memberAddCommand(), a.memberPromoteCommand(), a.memberRemoveCommand(), a.memberReplaceCommand())
	return cmd
}

func (a *app) memberListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List the members, and how they are",
		Example: "  conclave member ls\n  conclave member ls -o json | jq -r '.[] | select(.state != \"healthy\").name'",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStatus(cmd.Context(), func(ctx context.Context, _ target, look looker) error {
				s, err := look.status(ctx)
				if err != nil {
					return err
				}
				views, rows := []memberView{}, [][]string{}
				for _, m := range s.GetEtcd().GetMembers() {
					v := memberViewOf(m)
					views = append(views, v)
					rows = append(rows, []string{v.ID, clean(firstOf(v.Name, "-")), v.Role, v.State, clean(firstOf(v.Version, "-")),
						clean(strings.Join(v.PeerURLs, ",")), clean(firstOf(strings.Join(v.ClientURLs, ","), "-"))})
				}
				if len(views) == 0 {
					return &Error{Exit: ExitUnavailable, Code: "unavailable", Reason: "no_quorum", Message: "etcd does not tell its members",
						Hint: "see what is wrong with: conclave doctor"}
				}
				return a.printList(views, []string{"ID", "NAME", "ROLE", "STATE", "VERSION", "PEER", "CLIENT"}, rows)
			})
		},
	}
}

// members are those of the target's etcd, and a client of it to change them with.
type members struct {
	app    *app
	at     target // etcd's
	asked  string // where one who joins can ask
	client *clientv3.Client
	all    []*hostv1.Member
}

// changing bounds a change of members, when the user did not say --timeout: etcd
// refuses some for its first five seconds.
const changing = 20 * time.Second

// withMembers runs work with the members as they are now.
func (a *app) withMembers(ctx context.Context, work func(ctx context.Context, m *members) error) error {
	ctx, cancel := a.bounded(ctx, changing)
	defer cancel()
	return a.withStatus(ctx, func(ctx context.Context, t target, look looker) error {
		s, err := look.status(ctx)
		if err != nil {
			return err
		}
		m := &members{app: a, at: t, asked: t.addresses(), all: s.GetEtcd().GetMembers()}
		if !t.direct() {
			if m.at.endpoints, err = clientURLs(t, m.all); err != nil {
				return err
			}
			m.at.api = nil
			if with, err := a.access(t); err == nil && with.token != "" && len(m.at.endpoints) > 0 {
				m.asked = m.at.endpoints[0] // serve --join has no token for an API
			}
		}
		if m.client, err = a.dial(ctx, m.at); err != nil {
			return err
		}
		defer func() { _ = m.client.Close() }()
		return work(ctx, m)
	})
}

// clientURLs are those of the members that answer, if they lead anywhere from here.
func clientURLs(t target, all []*hostv1.Member) ([]string, error) {
	var urls []string
	far := false
	for _, m := range all {
		if m.GetHealthy() && !m.GetLearner() {
			urls = append(urls, m.GetClientUrls()...)
		}
	}
	for _, u := range t.api {
		far = far || !loopback(u)
	}
	switch {
	case len(urls) == 0:
		return nil, &Error{Exit: ExitUnavailable, Code: "unavailable", Reason: "no_quorum", Message: "no member of etcd answers", Hint: "see what is wrong with: conclave doctor"}
	case far && !slices.ContainsFunc(urls, func(u string) bool { return !loopback(u) }):
		return nil, &Error{Exit: ExitUnavailable, Code: "unavailable", Reason: "no_quorum",
			Message: "etcd listens on loopback alone, at " + strings.Join(urls, ", "), Hint: "run this on a machine of the cluster, or set etcd.listen_client and etcd.advertise_client"}
	}
	return urls, nil
}

func loopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "unix" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
}

// find returns a member by its name or its id.
func (m *members) find(wanted string) (*hostv1.Member, error) {
	var known []string
	for _, one := range m.all {
		if one.GetId() == wanted || (one.GetName() == wanted && wanted != "") {
			return one, nil
		}
		known = append(known, firstOf(one.GetName(), one.GetId()))
	}
	return nil, &Error{Exit: ExitNotFound, Code: "not_found", Reason: "not_found", Message: fmt.Sprintf("there is no member %q", wanted),
		Hint: firstOf(didYouMean(wanted, known, ""), "they are "+strings.Join(known, ", "))}
}

// retryPause is between two tries of a change that etcd refuses for now.
const retryPause = 500 * time.Millisecond

// persist makes a change, again and again while etcd refuses it for reasons that
// pass: in its first five seconds, or without a leader.
func (m *members) persist(ctx context.Context, change func(ctx context.Context) error) error {
	told := false
	for {
		err := change(ctx)
		if err == nil || !passes(err) {
			return err
		}
		if !told {
			told = true
			m.app.note(fmt.Sprintf("etcd refuses for now, trying again: %v", err))
		}
		timer := time.NewTimer(retryPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			if errors.Is(context.Cause(ctx), errNoAnswer) {
				return err // what etcd said is more than that time is over
			}
			return ctx.Err()
		}
	}
}

func passes(err error) bool {
	for _, later := range []error{
		rpctypes.ErrMemberLearnerNotReady, rpctypes.ErrTooManyLearners,
		// An id is made of the peer URL and the second; that of a member which was just removed is refused.
		rpctypes.ErrMemberNotFound,
	} {
		if errors.Is(err, later) {
			return true
		}
	}
	return statusCode(err) == codes.Unavailable
}
