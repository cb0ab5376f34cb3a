package host_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/recipes/election"
)

const electionService = "election.v1.ElectionService/"

// electionVerbs are the methods of the service; those of a session are marked.
func electionVerbs() (all []verb, session map[string]bool) {
	all = []verb{
		{electionService + "Campaign", ""}, {electionService + "Resign", `,"token":"@TOKEN"`}, {electionService + "Proclaim", `,"token":"@TOKEN"`},
		{electionService + "Leader", ""}, {electionService + "Contenders", ""}, {electionService + "Transfer", `,"to":"x"`},
		{electionService + "ForceResign", `,"reason":"a test"`}, {electionService + "History", ""},
	}
	return all, map[string]bool{electionService + "Campaign": true, electionService + "Resign": true, electionService + "Proclaim": true}
}

func badCampaigns() []bad {
	refuse := func(what, fields, field, limit string) bad {
		return verb{electionService + "Campaign", ""}.of(what, `"sessionId":"@A","name":"n",`+fields, codes.InvalidArgument, "invalid_"+field+": "+field+": ", limit)
	}
	zones := `"preferredZones":[` + strings.Repeat(`"z",`, 16) + `"z"]`
	return []bad{
		refuse("a value of 4,097 bytes", `"value":"`+strings.Repeat("v", 4097)+`"`, "value", "4096"),
		refuse("a negative wait", `"wait":"-1s"`, "wait", "negative"),
		refuse("a priority of 128", `"priority":128`, "priority", "127"),
		refuse("a priority of -129", `"priority":-129`, "priority", "-128"),
		refuse("a zone of 65 bytes", `"zone":"`+strings.Repeat("z", 65)+`"`, "zone", "64"),
		refuse("a zone of two lines", `"zone":"a\nb"`, "zone", "control character at byte 1"),
		refuse("17 zones", zones, "preferred_zones", ""),
		refuse("a purpose of 257 bytes", `"purpose":"`+strings.Repeat("p", 257)+`"`, "purpose", "the limit is 256"),
		refuse("negative seats", `"seats":-1`, "seats", ""),
		refuse("1,001 seats", `"seats":1001`, "seats", "1000"),
		refuse("a grace of 11 s", `"grace":"11s"`, "grace", "10s"),
		refuse("a negative grace", `"grace":"-0.1s"`, "grace", "negative"),
	}
}

func badTerms() []bad {
	refuse := func(method, what, fields string, code codes.Code, says, limit string) bad {
		return verb{electionService + method, ""}.of(what, fields, code, says, limit)
	}
	invalid := codes.InvalidArgument
	return []bad{
		refuse("Campaign", "an election that another one leads", `"sessionId":"@B","name":"held","wait":"0s"`, codes.Aborted, "locked: ", "held"),
		refuse("Campaign", "another number of seats", `"sessionId":"@B","name":"held","wait":"0s","seats":2`, codes.Aborted, "conflict: ", "held"),
		refuse("Proclaim", "a long value", `"sessionId":"@A","name":"held","token":"@TOKEN","value":"`+strings.Repeat("v", 4097)+`"`, invalid, "invalid_value: value: ", "4096"),
		refuse("Leader", "nobody", `"name":"free"`, codes.NotFound, "not_found: ", "free"),
		refuse("Transfer", "nobody", `"name":"held"`, invalid, "invalid_to: to: ", "empty"),
		refuse("Transfer", "256 bytes", `"name":"held","to":"`+strings.Repeat("t", 256)+`"`, invalid, "invalid_to: to: ", "255"),
		refuse("Transfer", "one who does not stand", `"name":"held","to":"nobody"`, codes.NotFound, "not_found: ", "nobody"),
		refuse("Transfer", "without a leader", `"name":"free","to":"x"`, codes.NotFound, "not_found: ", "free"),
		refuse("Transfer", "another token", `"name":"held","to":"x","token":"42"`, codes.FailedPrecondition, "stale_token: ", "42"),
		refuse("Transfer", "a negative token", `"name":"held","to":"x","token":"-1"`, invalid, "invalid_token: token: ", "negative"),
		refuse("ForceResign", "no reason", `"name":"held"`, invalid, "invalid_reason: reason: ", "empty"),
		refuse("ForceResign", "a long reason", `"name":"held","reason":"`+strings.Repeat("r", 257)+`"`, invalid, "invalid_reason: reason: ", "256"),
		refuse("ForceResign", "a long name of who asks", `"name":"held","reason":"r","by":"`+strings.Repeat("b", 256)+`"`, invalid, "invalid_by: by: ", "255"),
		refuse("ForceResign", "another token", `"name":"held","reason":"r","token":"42"`, codes.FailedPrecondition, "stale_token: ", "42"),
		refuse("History", "too much", `"name":"held","limit":1001`, invalid, "invalid_limit: limit: ", "1000"),
		refuse("List", "a bad prefix", `"prefix":"\n"`, invalid, "invalid_prefix: prefix: ", "control character"),
		refuse("List", "a negative page", `"pageSize":-1`, invalid, "invalid_page_size: page_size: ", "negative"),
		refuse("List", "a page of nothing", `"pageToken":"!"`, invalid, "invalid_page_token: page_token: ", "List"),
	}
}

// Bad input to elections is refused alike over every transport, and writes nothing.
func TestBadInputToElectionsIsRefused(t *testing.T) {
	t.Parallel()
	s := newOwners(t, election.Recipe{}, `{"historyOff":true}`, electionService+"Campaign", `{"sessionId":"@A","name":"held"}`)
	verbs, session := electionVerbs()
	var own []verb
	for _, v := range verbs {
		if session[v.method] {
			own = append(own, v)
		}
	}
	s.refusesAll(t, slices.Concat(refusedNames(verbs, session), refusedSessions(own, "held"), badCampaigns(), badTerms(),
		refusedTokens(verb{electionService + "Resign", ""}, "Campaign", "stale_token: "),
		refusedTokens(verb{electionService + "Proclaim", ""}, "Campaign", "stale_token: ")))
}
