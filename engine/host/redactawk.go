package host

// redactAWK is the rule of redact.go in awk, which runs on the machine. Its
// variables have the redactor's meaning; keep the two alike.
const redactAWK = `
function closing(s, q) {
	if (q == "\"") return match(s, /^([^"\\]|\\.)*"/)
	return match(s, /^([^\047]|\047\047)*\047/)
}
function blocks(s,   hit, n) {
	res = ""; hit = pem
	for (n = 0; ; n++) {
		if (pem) {
			if (!match(s, /-----END [A-Z0-9 ]*PRIVATE KEY[A-Z0-9 ]*-----/)) break
			s = substr(s, RSTART + RLENGTH); pem = 0
		}
		if (!match(s, /-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z0-9 ]*-----/)) { res = res s; break }
		if (n == 500) { res = res "REDACTED"; pem = hit = 1; break }
		res = res substr(s, 1, RSTART - 1)
		s = substr(s, RSTART + RLENGTH); pem = hit = 1
	}
	if (hit) red = 1
	return !hit || res !~ /^[ \t\r]*$/
}
function encoded(s,   out, n) {
	out = ""
	while (n++ < 500 && match(s, /LS0tLS1CRUdJTi[A-Za-z0-9+\/]+=*/)) {
		out = out substr(s, 1, RSTART - 1)
		if (substr(s, RSTART, 30) == "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS") out = out substr(s, RSTART, RLENGTH)
		else { out = out "REDACTED"; red = 1 }
		s = substr(s, RSTART + RLENGTH)
	}
	if (n > 500 && s ~ /LS0tLS1CRUdJTi/) { red = 1; return out "REDACTED" }
	return out s
}
function redact(s) {
	if (!blocks(s)) return
	s = encoded(res)
	if (quo != "") {
		if (!closing(s, quo)) return
		s = substr(s, RLENGTH + 1); quo = ""
		if (s ~ /^[ \t\r]*$/) return
	}
	if (drop >= 0) {
		match(s, /^[ \t]*/)
		if (RLENGTH > drop || RLENGTH == length(s)) { red = 1; return }
		drop = -1
	}
	if (pend && s !~ /^[ \t\r]*$/) {
		pend = 0
		if (s !~ /^[ \t]*(- )?["\047]?[A-Za-z0-9_.\/-]+["\047]?[ \t]*[:=]/ && s !~ /^[ \t]*(}|\])/ && s !~ /^[ \t]*(#|---|\.\.\.)/) {
			red = 1; s = "REDACTED"
		}
	}
	print "+" values(s)
}
function values(s,   low, at, out, from, flow, q, n) {
	out = ""
	for (n = 0; ; n++) {
		low = tolower(s)
		if (!match(low, /["\047]?(client-key-data|token|password|passwd|client-secret|id-token|refresh-token|access-token|bearertoken|certificatekey|certificate-key|secret|tls\.key|private_key)\\?["\047]?[ \t]*[:=]/)) return out s
		if (n == 500) { red = 1; drop = 0; return out "REDACTED" }
		at = RSTART; from = length(out) + RSTART - 1
		out = out substr(s, 1, RSTART + RLENGTH - 1)
		s = substr(s, RSTART + RLENGTH)
		if (at > 1 && substr(low, at, 1) !~ /["\047]/ && substr(low, at - 1, 1) ~ /[a-z0-9_.-]/) continue
		flow = substr(out, 1, from) ~ /[{,][ \t]*$/
		match(s, /^[ \t]*/)
		out = out substr(s, 1, RLENGTH)
		s = substr(s, RLENGTH + 1)
		if (s == "" || s == "\r" || s ~ /^#/) { pend = 1; drop = from; return out }
		red = 1
		if (s ~ /^["\047]/) {
			q = substr(s, 1, 1)
			out = out q "REDACTED" q
			s = substr(s, 2)
			if (!closing(s, q)) { quo = q; return out }
			s = substr(s, RLENGTH + 1)
			continue
		}
		out = out "REDACTED"
		if (!flow) { drop = from; return out }
		if (!match(s, /[,}]/)) return out
		s = substr(s, RSTART)
	}
}
`
