"""What the pages promise, one sentence each. A test names the promise it shows: `@pytest.mark.promise("drawn-once")`.

A house test holds that each promise has a test in the tier that anyone runs, and that no test names another.
"""

from __future__ import annotations

PROMISES = {
    # The privacy contract
    "bound-per-case": "One case moves the releases of each table by at most its population's contribution bound",
    "noise": "The noise follows the exact distribution that the privacy map of the release asks for",
    "no-off-switch": "Nothing turns the noise off, and no seed makes it repeatable",
    "audited": "The guarantee is measured from emitted bytes to the published file, and a broken rule is found",
    "budget": "The epsilons of all declarations together stay under the lifetime epsilon",
    "declared-for-life": "A declared population never changes",
    "drawn-once": "Each value is drawn once, whatever crashes, and is published as it was drawn",
    "ledger-first": "The ledger is read to its end before a draw, and holds the value before anybody sees it",
    "public-domain": "Every combination of symbols appears, zeros included",
    "clock-alone": "The clock alone decides when a period closes, and an untrusted clock closes none",
    "closed-for-ever": "A settled period is never counted again",
    "forgetting": "What is settled is forgotten: no attribute, place or residue stays in the files",
    "year-forgotten": "A yearly horizon's hashes are worth nothing once the year's secret is destroyed",
    "no-exact-count": "No exact count, identifier or payload leaves in a file, log, metric or error",
    "silence": "A busy day and an empty day look the same to those who watch the service",
    "pseudonyms": "An identifier never leaves the emitter, which turns it into a key under the pepper",
    # The path of an event
    "nothing-lost": "kill -9 at any moment loses no event that was acknowledged",
    "nothing-twice": "A file emitted twice, a redelivery and a replay each count once",
    "corrections": "A higher revision replaces an earlier one while its period is open",
    "withdrawal": "A withdrawal takes a case out of every open period",
    "late": "An event of a settled period is carried or dropped, as its population says",
    "deterministic-fold": "Folding the same log again, in any batches, gives the same state",
    "log-contract": "Every log keeps the same contract",
    "ledger-contract": "Every ledger keeps the same contract",
    "strict-decode": "A record is folded only if its canonical encoding is what came in",
    "dead-letters": "A rejected record becomes a dead letter with a reason, and the next record is folded",
    "whole-files": "A file is checked whole before its first event is sent",
    "spool": "With a spool, emitting goes on while the log does not answer, and nothing is lost or reordered",
    "lint": "A schema that could carry a name is refused",
    "evolution": "A schema changes only so that every version reads every other",
    "registry": "A registry that lies or is down changes nothing that is folded",
    "planned": "A plan, made before any budget is spent, gives the margins that the releases will have",
    # For operators
    "ledger-chain": "A ledger that was altered, shortened or replaced is noticed",
    "signed-heads": "The head of a published ledger is signed, and a chain rebuilt by others is not",
    "older-refused": "An older copy of the ledger or the state is refused before anything is drawn",
    "one-releaser": "Of two services on one ledger the one that started last holds it; the other draws nothing",
    "losses": "Each loss has a way back that draws no value a second time",
    "outages": "The service waits out a full disk and brokers that are away, and goes on by itself",
    "log-replaced": "A log that is not what it was stops the service before it folds or releases anything",
    "signals": "SIGTERM and SIGINT let the batch in hand finish, and end with 0",
    "reload": "SIGHUP reads the configuration again, and a wrong one is refused while the service goes on",
    "health": "Metrics and health checks say how the service is",
    "answer-times": "How long an answer takes says nothing of the fold's work",
    "alerts": "Each alert fires for its fault",
    "doctor": "The doctor changes nothing, and says what is wrong and how to mend it",
    "clear-errors": "What a person did wrong is one sentence without a traceback, and exits with 1 or 2",
    "configuration": "Unknown keys are refused, and each key is documented",
    "secrets-private": "Secrets and private files are their owner's alone, and others' eyes make them refused",
    # For analysts
    "figures": "The published figures of real casework are reproduced",
    "intervals": "An interval misses no more often than it says",
    "reconciled": "The tables of a population agree to the last digit, and a figure says when it is final",
    "public-file": "The published file stands alone, is described throughout and opens with DuckDB",
    "published-again": "A deleted published file comes back from the ledger with the same bytes",
    "queries": "A question is answered from the published file alone, in the form that was asked for",
    "report": "The report is one file that asks nobody for anything, and claims no more than its intervals allow",
    "handed-on": "An export holds what is published, whole, in a form that others' programs open safely",
    # The house
    "demo": "The demo does the whole job",
    "light-emitter": "An emitter installs neither the database nor the noise",
    "commands": "Each command, option, key, metric and published column is documented, and the pages' code runs",
    "kafka": "What was emitted to Kafka is released once",
}
