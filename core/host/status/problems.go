package status

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
)

const (
	// nearlyFull is the part of its quota at which a database is a problem.
	nearlyFull = 0.8
	// hollow is how large a database is before its unused half is worth a word.
	hollow = 256 << 20
	// renewal is how long before its end a certificate that nobody has renewed is a problem.
	renewal = 7 * 24 * time.Hour
)

const (
	severe  = hostv1.Severity_SEVERITY_ERROR
	warning = hostv1.Severity_SEVERITY_WARNING
)

func problem(severity hostv1.Severity, reason, hint, text string, args ...any) *hostv1.Problem {
	return &hostv1.Problem{Reason: reason, Severity: severity, Text: fmt.Sprintf(text, args...), Hint: hint}
}

// problems says in words what is wrong, the worst first. The words stay the same
// for as long as the problem does, so that it can be told apart from another.
func (s *Service) problems(l *look, recipes []*hostv1.Recipe) []*hostv1.Problem {
	found := slices.Concat(ofQuorum(l), ofStore(l.etcd), ofMembers(l.etcd), ofRecipes(recipes))
	if s.cfg.Certificates != nil {
		found = append(found, ofCertificates(s.cfg.Certificates(), time.Now())...)
	}
	if s.cfg.Vitals != nil {
		found = append(found, ofVitals(s.cfg.Vitals())...)
	}
	if s.cfg.Sessions != nil {
		found = append(found, ofSessions(s.cfg.Sessions(), s.cfg.SessionLimit)...)
	}
	slices.SortStableFunc(found, func(a, b *hostv1.Problem) int { return cmp.Compare(a.GetSeverity(), b.GetSeverity()) })
	return found
}

func ofQuorum(l *look) []*hostv1.Problem {
	var found []*hostv1.Problem
	if l.refused {
		found = append(found, problem(severe, "auth_enabled",
			"give the host a user of etcd, or switch authentication off: etcdctl auth disable",
			"etcd's authentication is on and the host has no login: every call that needs etcd is refused"))
	}
	if l.failed != nil {
		text := "etcd does not answer"
		if len(l.etcd.GetMembers()) > 0 {
			text = "etcd has no quorum"
		}
		found = append(found, problem(severe, "no_quorum",
			"start the members that are down, or mend the network between them", "%s: nothing can be acquired or renewed", text))
	}
	return found
}

func ofStore(e *hostv1.Etcd) []*hostv1.Problem {
	var found []*hostv1.Problem
	for _, a := range e.GetAlarms() {
		switch a.GetKind() {
		case "NOSPACE":
			found = append(found, problem(severe, "no_space", "hosts make room by themselves within a minute where they can; by hand: conclave maintenance recover",
				"member %s has reached its quota: etcd takes no new sessions and no writes, only releases", a.GetMemberId()))
		case "CORRUPT":
			found = append(found, problem(severe, "corrupt", "replace that member, or restore the cluster from a snapshot",
				"the data of member %s differ from those of the others", a.GetMemberId()))
		default:
			found = append(found, problem(severe, "alarm", "see: etcdctl alarm list", "member %s has raised the alarm %s", a.GetMemberId(), a.GetKind()))
		}
	}
	if q := e.GetDbQuota(); q > 0 && len(e.GetAlarms()) == 0 && float64(e.GetDbSize()) > nearlyFull*float64(q) {
		found = append(found, problem(warning, "nearly_full", "see what fills it: conclave maintenance status; give back what is not used: conclave maintenance defrag; or raise etcd.quota_bytes",
			"the database has more than %d %% of the %s that it may have", int(100*nearlyFull), size(q)))
	}
	if e.GetDbSize() > hollow && e.GetDbSizeInUse() < e.GetDbSize()/2 {
		found = append(found, problem(warning, "fragmented", "hosts do it by themselves, one member at a time; by hand: conclave maintenance defrag",
			"less than half of what the database takes is in use"))
	}
	return found
}

func ofMembers(e *hostv1.Etcd) []*hostv1.Problem {
	var found []*hostv1.Problem
	versions := make(map[string]bool)
	for _, m := range e.GetMembers() {
		if m.GetVersion() != "" {
			versions[m.GetVersion()] = true
		}
		if !m.GetHealthy() {
			name := cmp.Or(m.GetName(), m.GetId())
			found = append(found, problem(warning, "member_down", "start it, or replace it", "member %s does not answer: %s", name, m.GetError()))
		}
	}
	if e.GetServing() && e.GetLeader() == "" && len(versions) > 0 {
		found = append(found, problem(warning, "no_leader", "", "no member leads just now"))
	}
	if len(versions) > 1 {
		found = append(found, problem(warning, "version_skew", "finish the upgrade", "the members run %d versions of etcd", len(versions)))
	}
	return found
}

func ofCertificates(all []Certificate, now time.Time) []*hostv1.Problem {
	const hint = "put a new certificate and key in its place: they count without a restart"
	var found []*hostv1.Problem
	for _, c := range all {
		switch left := c.Expires.Sub(now); {
		case c.Err != nil:
			found = append(found, problem(warning, "certificate_broken", "mend the files of "+c.Field,
				"the certificate of %s cannot be read any more; the one from before still counts: %v", c.Field, c.Err))
		case left <= 0:
			found = append(found, problem(severe, "certificate_expired", hint, "the certificate of %s, %s, has ended at %s: nobody trusts it any more",
				c.Field, c.File, c.Expires.UTC().Format(time.RFC3339)))
		case left < renewal:
			found = append(found, problem(warning, "certificate_expires", hint, "the certificate of %s, %s, ends at %s",
				c.Field, c.File, c.Expires.UTC().Format(time.RFC3339)))
		}
	}
	return found
}

func ofRecipes(recipes []*hostv1.Recipe) []*hostv1.Problem {
	var found []*hostv1.Problem
	for _, r := range recipes {
		said := ""
		if r.GetMessage() != "" {
			said = ": " + r.GetMessage()
		}
		switch r.GetState() {
		case hostv1.RecipeState_RECIPE_STATE_DEGRADED:
			found = append(found, problem(warning, "recipe_degraded", "", "recipe %s is degraded%s", r.GetName(), said))
		case hostv1.RecipeState_RECIPE_STATE_BACKOFF:
			found = append(found, problem(severe, "recipe_failed", "it is started again by itself", "recipe %s has failed%s", r.GetName(), said))
		case hostv1.RecipeState_RECIPE_STATE_QUARANTINED:
			found = append(found, problem(severe, "recipe_quarantined", "look into its log, then restart it", "recipe %s stays down%s", r.GetName(), said))
		}
	}
	return found
}

// size writes a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	value, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for len(units) > 1 && value >= unit {
		value, units = value/unit, units[1:]
	}
	return fmt.Sprintf("%.4g %s", value, units[0])
}
