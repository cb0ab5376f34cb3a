package status

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// lookBudget bounds a look at etcd.
const lookBudget = 2 * time.Second

// A look is what etcd said when it was asked.
type look struct {
	etcd    *hostv1.Etcd
	failed  error // why there is no quorum, or no answer at all
	refused bool  // etcd asks for a login that the host does not have
}

// look asks etcd and each of its members.
func (s *Service) look(ctx context.Context) *look {
	ctx, cancel := context.WithTimeout(ctx, lookBudget)
	defer cancel()
	l := &look{etcd: &hostv1.Etcd{Mode: hostv1.EtcdMode_ETCD_MODE_EXTERNAL, Endpoints: s.cfg.Endpoints}}
	if s.cfg.Embedded {
		l.etcd.Mode = hostv1.EtcdMode_ETCD_MODE_EMBEDDED
	}
	// A linearizable read tells whether there is a quorum; etcd looks for one
	// before it looks at who asks.
	read := make(chan error, 1)
	go func() {
		_, err := s.cfg.Client.Get(ctx, keyspace.SessionsPrefix(), clientv3.WithKeysOnly())
		read <- err
	}()
	list, err := s.cfg.Client.MemberList(ctx, clientv3.WithSerializable())
	var alarmed bool
	if err == nil {
		l.etcd.ClusterId = hex(list.Header.GetClusterId())
		alarmed = s.ask(ctx, l, list.Members)
	}
	l.failed = <-read
	if needsLogin(l.failed) {
		l.failed, l.refused = nil, true
	}
	l.etcd.Serving = l.failed == nil
	l.etcd.AuthEnabled = l.refused || s.authEnabled(ctx)
	if alarmed && !l.refused {
		l.etcd.Alarms = s.alarms(ctx)
	}
	return l
}

// ask asks every member how it is, and says whether one of them has an alarm.
func (s *Service) ask(ctx context.Context, l *look, members []*pb.Member) (alarmed bool) {
	answers := make([]*clientv3.StatusResponse, len(members))
	errs := make([]error, len(members))
	var all sync.WaitGroup
	for i, m := range members {
		if len(m.ClientURLs) == 0 {
			errs[i] = errors.New("it has never been started")
			continue
		}
		all.Go(func() { answers[i], errs[i] = s.cfg.Client.Status(ctx, m.ClientURLs[0]) })
	}
	all.Wait()
	for i, m := range members {
		told := &hostv1.Member{Id: hex(m.ID), Name: m.Name, PeerUrls: m.PeerURLs, ClientUrls: m.ClientURLs, Learner: m.IsLearner}
		l.etcd.Members = append(l.etcd.Members, told)
		if needsLogin(errs[i]) {
			l.refused, told.Healthy = true, true // it answers
			continue
		}
		if errs[i] != nil {
			told.Error = plain(ctx, errs[i])
			continue
		}
		a := answers[i]
		told.Healthy, told.Version = true, a.Version
		told.DbSize, told.DbSizeInUse, told.RaftIndex = a.DbSize, a.DbSizeInUse, int64(a.RaftIndex)
		told.Leader = a.Leader == m.ID
		alarmed = alarmed || len(a.Errors) > 0
		l.take(a)
	}
	slices.SortFunc(l.etcd.Members, func(a, b *hostv1.Member) int {
		return cmp.Or(cmp.Compare(a.GetName(), b.GetName()), cmp.Compare(a.GetId(), b.GetId()))
	})
	return alarmed
}

// take adds what one member said of the store.
func (l *look) take(a *clientv3.StatusResponse) {
	e := l.etcd
	e.Revision = max(e.GetRevision(), a.Header.GetRevision())
	if a.DbSize > e.GetDbSize() {
		e.DbSize, e.DbSizeInUse = a.DbSize, a.DbSizeInUse
	}
	if a.DbSizeQuota > 0 && (e.GetDbQuota() == 0 || a.DbSizeQuota < e.GetDbQuota()) {
		e.DbQuota = a.DbSizeQuota
	}
	if a.Leader != 0 {
		e.Leader = hex(a.Leader)
	}
}

// plain is an error in words for people.
func plain(ctx context.Context, err error) string {
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded {
		return "it did not answer in time"
	}
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}

// needsLogin says that etcd's authentication is on, and the host has no login.
func needsLogin(err error) bool {
	if err == nil {
		return false
	}
	code := status.Code(err)
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = e.Code()
	}
	return errors.Is(err, rpctypes.ErrUserEmpty) || code == codes.Unauthenticated || code == codes.PermissionDenied
}

// authEnabled asks whether authentication is on. A client without a login that
// is not refused knows the answer; only others ask, which costs a raft entry.
func (s *Service) authEnabled(ctx context.Context) bool {
	if s.cfg.Client.Username == "" {
		return false
	}
	resp, err := s.cfg.Client.AuthStatus(ctx)
	return err == nil && resp.Enabled
}

// alarms asks for the alarms, which costs a raft entry too.
func (s *Service) alarms(ctx context.Context) []*hostv1.Alarm {
	resp, err := s.cfg.Client.AlarmList(ctx)
	if err != nil {
		return nil
	}
	var told []*hostv1.Alarm
	for _, a := range resp.Alarms {
		told = append(told, &hostv1.Alarm{Kind: a.Alarm.String(), MemberId: hex(a.MemberID)})
	}
	return told
}

func hex(id uint64) string {
	if id == 0 {
		return ""
	}
	return strconv.FormatUint(id, 16)
}
