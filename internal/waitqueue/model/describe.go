package model

import "fmt"

var opText = [...]string{
	opView: "View", opTry: "Try", opEnter: "Enter", opLook: "Look", opClaim: "Claim",
	opCancel: "Cancel", opVoid: "Void", opPass: "Pass", opDowngrade: "Downgrade",
	opTakeUp: "TakeUp", opGiveUp: "GiveUp", opAsk: "Ask", opHome: "Home",
}

var phaseText = [...]string{
	idle: "not started", local: "in the local line", named: "named by a Pass", viewing: "viewing", trying: "trying",
	entering: "entering", waiting: "waiting", looking: "looking", claiming: "claiming", cancelling: "cancelling",
	voiding: "voiding", owning: "owning", lowering: "downgrading", releasing: "releasing", done: "done", crashed: "crashed",
	adopting: "taking up", asking: "asking", moving: "moving the home", givingUp: "giving up",
}

var kindText = [...]string{Writer: "writer", Reader: "reader", Permits: "permits"}

var actText = [...]string{
	actArrive:          "arrives",
	actLead:            "leads the local line",
	actApply:           "the store applies its %s",
	actApplyLate:       "the store applies a late copy of its %s",
	actLoseLate:        "a late copy of its %s is lost for good",
	actAnswer:          "gets the reply of %s",
	actLook:            "has waited a while, looks at the line",
	actUnblock:         "sees its blocker go, looks again",
	actRead:            "reads the line while it owns",
	actDowngrade:       "downgrades",
	actRelease:         "releases",
	actForcedOut:       "learns that it was forced out",
	actSessionOver:     "learns that its session is over",
	actPassForced:      "an operator passes its ownership on",
	actReadForced:      "an operator reads its token and the line, to force it out (fault)",
	actLoseReply:       "gives up on the reply of %s (fault)",
	actCancel:          "is cancelled (fault)",
	actLoseWatch:       "loses its watches (fault)",
	actDropTicket:      "an operator deletes its ticket by hand (fault)",
	actDropGrant:       "an operator deletes its grant by hand (fault)",
	actGiveUpPass:      "gives its release up (fault)",
	actTransfer:        "is told to let go in favour of a waiter (fault)",
	actReadTransferred: "an operator reads its token and the line, to pass it on to a waiter (fault)",
	actExpire:          "the lease expires (fault)",
	actExpireCrashed:   "the lease expires, as its process stopped or could not reach etcd",
	actDelayOver:       "its lock delay is over",
	actCrash:           "the process crashes (fault)",
}

var heardText = [...]string{heardGrant: "hears that its ticket is granted", heardDelete: "hears that its ticket is deleted"}

// Describe implements [Model].
func (m *Line) Describe(st Step) string {
	var text string
	switch st.Act {
	case actExpire, actExpireCrashed, actCrash:
		return fmt.Sprintf("session %d: %s", st.Actor+1, actText[st.Act])
	case actHear:
		text = heardText[st.Arg]
	case actApply, actApplyLate, actLoseLate, actAnswer, actLoseReply:
		text = fmt.Sprintf(actText[st.Act], opText[st.Arg])
	default:
		text = actText[st.Act]
	}
	return fmt.Sprintf("acquisition %d (%s): %s", st.Actor+1, m.who(int(st.Actor)), text)
}

func (m *Line) who(a int) string {
	q := m.cfg.Acquirers[a]
	text := kindText[q.Kind]
	if q.Kind == Permits {
		text = fmt.Sprintf("%d of %d permits", q.Permits, q.Limit)
	}
	if q.Urgency > 0 {
		text += fmt.Sprintf(", urgency %d", q.Urgency)
	}
	return fmt.Sprintf("%s, session %d", text, q.Session+1)
}
