package host_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/recipes/barrier"
)

const barrierService = "barrier.v1.BarrierService/"

// barrierVerbs are the methods of the service; those of a session are marked.
func barrierVerbs() (all []verb, session map[string]bool) {
	all = []verb{
		{barrierService + "Hold", ""}, {barrierService + "Release", `,"token":"@TOKEN"`}, {barrierService + "Wait", ""}, {barrierService + "Open", ""},
		{barrierService + "Enter", `,"parties":2`}, {barrierService + "Leave", `,"token":"@TOKEN"`}, {barrierService + "Cycle", `,"parties":2,"operation":"o"`},
		{barrierService + "CountDown", `,"count":2,"operation":"o"`}, {barrierService + "Await", `,"count":2`}, {barrierService + "Reset", `,"count":2`},
	}
	session = make(map[string]bool)
	for _, m := range []string{"Hold", "Release", "Enter", "Leave", "Cycle"} {
		session[barrierService+m] = true
	}
	return all, session
}

func badMeetings() []bad {
	var all []bad
	refuse := func(method, fields, field, what, bad, limit string) {
		all = append(all, verb{barrierService + method, ""}.of(what, fields+bad, codes.InvalidArgument, "invalid_"+field+": "+field+": ", limit))
	}
	const party = `"sessionId":"@A","name":"n"`
	long := strings.Repeat("p", 257)
	for method, fields := range map[string]string{"Enter": party, "Cycle": party + `,"operation":"o"`} {
		refuse(method, fields, "parties", "no parties", ``, "0 is outside 1 to 10000")
		refuse(method, fields, "parties", "negative parties", `,"parties":-1`, "-1 is outside 1 to 10000")
		refuse(method, fields, "parties", "10,001 parties", `,"parties":10001`, "10001 is outside 1 to 10000")
		refuse(method, fields, "wait", "a negative wait", `,"parties":2,"wait":"-1s"`, "negative")
		refuse(method, fields, "purpose", "a long purpose", `,"parties":2,"purpose":"`+long+`"`, "256")
	}
	for _, method := range []string{"CountDown", "Await", "Reset"} {
		fields := `"name":"n"`
		if method == "CountDown" {
			fields += `,"operation":"o"`
		}
		refuse(method, fields, "count", "no count", ``, "0 is outside 1 to 10000")
		refuse(method, fields, "count", "a negative count", `,"count":-1`, "-1 is outside 1 to 10000")
		refuse(method, fields, "count", "a count of 10,001", `,"count":10001`, "10001 is outside 1 to 10000")
	}
	refuse("Await", `"name":"n","count":2`, "wait", "a negative wait", `,"wait":"-1s"`, "negative")
	refuse("Wait", `"name":"n"`, "wait", "a negative wait", `,"wait":"-1s"`, "negative")
	refuse("Leave", party+`,"token":"@TOKEN"`, "wait", "a negative wait", `,"wait":"-1s"`, "negative")
	refuse("CountDown", `"name":"n","count":2`, "operation", "no operation", ``, "is empty")
	refuse("CountDown", `"name":"n","count":2`, "operation", "an operation of 256 bytes", `,"operation":"`+strings.Repeat("o", 256)+`"`, "255")
	refuse("Hold", party, "purpose", "a long purpose", `,"purpose":"`+long+`"`, "256")
	refuse("Hold", party, "purpose", "a purpose of two lines", `,"purpose":"a\nb"`, "control character at byte 1")
	refuse("List", "", "page_size", "a negative page", `"pageSize":-1`, "negative")
	refuse("List", "", "prefix", "a bad prefix", `"prefix":"\n"`, "control character")
	refuse("List", "", "page_token", "a page of nothing", `"pageToken":"!"`, "List")
	refuse("List", "", "namespace", "a bad namespace", `"namespace":".."`, `".."`)
	return append(all, verb{barrierService + "Wait", ""}.of("a barrier that is held", `"name":"held","wait":"0.001s"`, codes.Aborted, "locked: ", "held"))
}

// Bad input to barriers is refused alike over every transport, and writes nothing.
func TestBadInputToBarriersIsRefused(t *testing.T) {
	t.Parallel()
	s := newOwners(t, barrier.Recipe{}, ``, barrierService+"Hold", `{"sessionId":"@A","name":"held"}`)
	verbs, session := barrierVerbs()
	var own []verb
	for _, v := range verbs {
		if session[v.method] {
			own = append(own, v)
		}
	}
	s.refusesAll(t, slices.Concat(refusedNames(verbs, session), refusedSessions(own, "held"), badMeetings(),
		refusedTokens(verb{barrierService + "Release", ""}, "Hold", "stale_token: ")))
}

// The same for who is inside of a phase.
func TestBadInputToPhasesIsRefused(t *testing.T) {
	t.Parallel()
	s := newOwners(t, barrier.Recipe{}, ``, barrierService+"Enter", `{"sessionId":"@A","name":"held","parties":1}`)
	s.refusesAll(t, append(refusedTokens(verb{barrierService + "Leave", ""}, "Enter", "stale_token: "),
		verb{barrierService + "Enter", ""}.of("one more than there are parties", `"sessionId":"@B","name":"held","parties":1`, codes.Aborted, "full: ", "held"),
		verb{barrierService + "Enter", ""}.of("another number of parties", `"sessionId":"@B","name":"held","parties":2`, codes.Aborted, "conflict: ", "held")))
}
