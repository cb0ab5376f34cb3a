package model

import (
	"fmt"

	search "github.com/conclavehq/conclave/internal/waitqueue/model"
)

// Describe implements search.Model.
func (m *Queue) Describe(st search.Step) string {
	who := fmt.Sprintf("consumer %d", st.Actor)
	switch {
	case st.Act == actCompact:
		return "the history is compacted"
	case st.Actor == remover:
		who = "the removal"
	case st.Actor >= producers:
		who = fmt.Sprintf("producer %d", st.Actor-producers)
	}
	request := [...]string{"", "enqueue", "arrive", "claim", "ack", "return", "inherit", "overdue", "tidy", "bury", "resume", "head", "drop", "drop of a delivery", "forget", "remove",
		"claim of a bundle", "ack of a bundle", "split", "inherit of a bundle", "drop of a bundle"}
	switch st.Act {
	case actSend:
		return fmt.Sprintf("%s sends %s", who, request[st.Arg])
	case actApply:
		return fmt.Sprintf("etcd applies %s of %s", request[st.Arg], who)
	case actAnswer:
		return fmt.Sprintf("%s hears the answer to %s", who, request[st.Arg])
	case actLate:
		return fmt.Sprintf("etcd applies a late %s of %s", request[st.Arg], who)
	case actRemove:
		return fmt.Sprintf("the removal goes for %s", request[st.Arg])
	case actLoseReply:
		return fmt.Sprintf("%s hears no answer to %s", who, request[st.Arg])
	}
	what := [...]string{"", "", "", "", "looks, and goes for item", "acks item", "nacks item", "notices that its session has ended", "'s lease ends",
		"returns item", "", "'s lease ends unnoticed", "stops", "meets a delivery whose time is over: item", "gives its ack up", "", "'s key is deleted by hand", "gives its call up, and acks again", "buries item"}
	switch st.Act {
	case actDropOut:
		return fmt.Sprintf("the delivery of item %d is deleted by hand", st.Actor)
	case actDropAll:
		return fmt.Sprintf("the bundle of consumer %d is deleted by hand", st.Actor)
	case actGather:
		return who + " looks, and goes for both items together"
	case actAckAll:
		return who + " acks both items together"
	case actSplit:
		return who + " is to settle one item alone"
	case actSplitByOther:
		return fmt.Sprintf("somebody else splits the bundle of consumer %d", st.Actor)
	case actPause:
		return "the queue is paused"
	case actOpen:
		return "another producer opens a segment"
	case actUnpause:
		return "the queue goes on"
	}
	return fmt.Sprintf("%s %s %d", who, what[st.Act], st.Arg)
}
