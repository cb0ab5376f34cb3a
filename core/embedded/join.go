package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// etcd refuses to change its members until they have been connected for five seconds, so that haste gains nothing.
	admitPause = 250 * time.Millisecond
	admitCall  = 5 * time.Second
	// A learner is asked for often: it has caught up within milliseconds unless its cluster holds much data.
	promotePause = 50 * time.Millisecond
	promoteCall  = 2 * time.Second
	// reportEvery is how often the log says what a join waits for.
	reportEvery = 5 * time.Second
)

// ErrMemberExists means that a cluster already has a member of the name or the peer URL that is to join, and that this one has run: its data are
// elsewhere, or lost. The error that wraps it says which.
var ErrMemberExists = errors.New("the cluster has such a member already")

// HasData reports whether a member has run on dir: then it starts as what it was, and is not admitted again.
func HasData(dir string) bool { return hasLog(dir) }

// Admit has a running cluster count the member that cfg describes, and returns cfg as [Start] needs it to join. The member is counted as a learner,
// which endangers no majority: it votes once Start has returned. c is a client of the cluster, and cfg needs a PeerAddr, or an AdvertisePeer, that
// the other members can reach.
//
// A place that an earlier call was given is used again, so that a join that ended halfway is continued. etcd takes nobody in during its first five
// seconds, while another one is joining, and without a leader: Admit then tries again until ctx ends. The error is [ErrMemberExists], [ErrConfig], what
// etcd said, or the cause of ctx with what stood in the way.
func Admit(ctx context.Context, c *clientv3.Client, cfg Config) (Config, error) {
	cfg = cfg.withDefaults()
	peer := cfg.peerURL()
	if portIsFree(firstOf(cfg.AdvertisePeer, cfg.PeerAddr)) {
		return cfg, configError("PeerAddr", "%q: other members cannot know a port that is chosen at start", cfg.PeerAddr)
	}
	waiting := newWaiting(cfg.Logger, "waiting to be admitted to the cluster", admitPause)
	for {
		members, err := admitted(ctx, c, cfg.Name, peer)
		if err == nil {
			cfg.Join, cfg.InitialCluster = true, membersByName(members, cfg.Name, peer)
			return cfg, nil
		}
		if !passes(err) {
			return cfg, err
		}
		if err := waiting.pause(ctx, err); err != nil {
			return cfg, err
		}
	}
}

// admitted returns the members with this one among them.
func admitted(ctx context.Context, c *clientv3.Client, name, peer string) ([]*pb.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, admitCall)
	defer cancel()
	list, err := c.MemberList(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range list.Members {
		switch here := slices.Contains(m.PeerURLs, peer); {
		case here && m.Name == "": // the place that an earlier try was given
			return list.Members, nil
		case here:
			return nil, fmt.Errorf("%w: %s at %s has run before, and its data are not in this directory; remove it first, or replace it", ErrMemberExists, m.Name, peer)
		case m.Name == name:
			return nil, fmt.Errorf("%w: the name %s is that of the member at %s", ErrMemberExists, name, strings.Join(m.PeerURLs, ", "))
		}
	}
	added, err := c.MemberAddAsLearner(ctx, []string{peer})
	if err != nil {
		return nil, err
	}
	return added.Members, nil
}

// membersByName is what etcd asks a member that joins to know: everybody's peer URLs. It compares those, so that a member which has not told its
// name yet may be given any.
func membersByName(members []*pb.Member, name, peer string) map[string]string {
	all := make(map[string]string, len(members))
	for _, m := range members {
		known := m.Name
		switch {
		case slices.Contains(m.PeerURLs, peer):
			known = name
		case known == "":
			known = fmt.Sprintf("unstarted-%x", m.ID)
		}
		all[known] = strings.Join(m.PeerURLs, ",")
	}
	return all
}

// Withdraw gives back the place that [Admit] was given for a member that will not start. It leaves a member alone that has run.
func Withdraw(ctx context.Context, c *clientv3.Client, cfg Config) error {
	peer := cfg.withDefaults().peerURL()
	list, err := c.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range list.Members {
		if m.Name == "" && m.IsLearner && slices.Contains(m.PeerURLs, peer) {
			_, err := c.MemberRemove(ctx, m.ID)
			return err
		}
	}
	return nil
}

// Promote gives the member that cfg describes its vote, when it has caught up with the others, and returns then. A member that joins asks for its vote
// itself; it cannot once etcd's authentication is on, as members do not log in at each other. c is a client of the cluster whose user may change its
// members. The error is what etcd said, or the cause of ctx with what stood in the way.
func Promote(ctx context.Context, c *clientv3.Client, cfg Config) error {
	cfg = cfg.withDefaults()
	waiting := newWaiting(cfg.Logger, "waiting to give a learner its vote", admitPause)
	for {
		done, err := promoted(ctx, c, cfg.peerURL())
		switch {
		case done:
			return nil
		case err != nil && !passes(err) && !errors.Is(err, rpctypes.ErrMemberLearnerNotReady):
			return err
		}
		if err := waiting.pause(ctx, err); err != nil {
			return err
		}
	}
}

// promoted reports whether the member votes, and asks for it if it is a learner that has started.
func promoted(ctx context.Context, c *clientv3.Client, peer string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, admitCall)
	defer cancel()
	list, err := c.MemberList(ctx)
	if err != nil {
		return false, err
	}
	for _, m := range list.Members {
		if !slices.Contains(m.PeerURLs, peer) {
			continue
		}
		if !m.IsLearner {
			return true, nil
		}
		_, err := c.MemberPromote(ctx, m.ID)
		return err == nil, err
	}
	return false, fmt.Errorf("%w: no member is at %s", ErrRemoved, peer)
}

// passes reports whether an error of a change of members may be gone at the next try. Whether the change was made anyway is seen there too.
func passes(err error) bool {
	for _, later := range []error{
		rpctypes.ErrTooManyLearners, rpctypes.ErrMemberNotEnoughStarted, rpctypes.ErrPeerURLExist, rpctypes.ErrMemberExist, context.DeadlineExceeded,
		// A new member's id is made of its peer URL and the second; within one, that of a member which was just removed is refused.
		rpctypes.ErrMemberNotFound,
	} {
		if errors.Is(err, later) {
			return true
		}
	}
	code := status.Code(err)
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = e.Code()
	}
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// vote returns when this member has a vote. A learner asks for one itself if it was configured to join; otherwise somebody else has to.
func (m *Member) vote(ctx context.Context) error {
	s := m.server.etcd.Server
	waiting := newWaiting(m.cfg.Logger, "waiting to become a voter", promotePause)
	for {
		// Not IsLearner, which panics when the member has been removed.
		self := s.Cluster().Member(s.MemberID())
		switch {
		case self == nil:
			return m.server.stopped(nil)
		case !self.IsLearner:
			return nil
		}
		err := errors.New("it is a learner, and nobody has promoted it")
		if m.cfg.Join {
			call, cancel := context.WithTimeout(ctx, promoteCall)
			_, err = s.PromoteMember(call, uint64(s.MemberID()))
			cancel()
		}
		select {
		case <-s.StopNotify():
			return m.server.stopped(nil)
		default:
		}
		if err := waiting.pause(ctx, err); err != nil {
			return fmt.Errorf("%w: %w", ErrNoQuorum, err)
		}
	}
}

// waiting paces tries, and tells the log now and then what they wait for.
type waiting struct {
	log     *slog.Logger
	text    string
	every   time.Duration
	began   time.Time
	told    time.Time
	another bool
}

func newWaiting(log *slog.Logger, text string, every time.Duration) *waiting {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &waiting{log: log, text: text, every: every, began: time.Now()}
}

// pause waits for the next try; err is why the last one failed, or nil.
func (w *waiting) pause(ctx context.Context, err error) error {
	if now := time.Now(); err != nil && w.another && now.Sub(w.told) >= reportEvery {
		w.told = now
		w.log.Warn(w.text, "for", now.Sub(w.began).Round(time.Second), "because", err)
	}
	w.another = true
	timer := time.NewTimer(w.every)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w (%w)", w.text, context.Cause(ctx), err)
	}
}
