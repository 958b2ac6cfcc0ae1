"""syncd: pulls customer evidence from where it lives and delivers it to Zentrik, exactly once in effect.

The floor plan. `pull` reads sources, `dispatch` posts, `track` asks what became of it; the ledger is the only
thing they share. A module imports from the floors below its own, never from above.

    floor 0  words        errors, records, fates, edits, retry, pacing, cron, places, spans, budgets
    floor 1  contracts    fields, dates, logs, trust, subjects, detectors < redaction, templates < expressions
                          < mapping < connector, mistakes, signals, http_client, transport, kit/ < shape
    floor 2  parts        ledger/, zentrik < mirror, sweep, workspace; registry, sandbox/
    floor 3  verbs        directory < pull < backfill, release; dispatch, track, reconcile, rerun, revise, forget,
                          late_redaction, waiting, inventory < rebuild < audit;
                          config (settings, yaml_file, validation), catalogue, scaffold/
    floor 4  the house    promises; reference; interrupts, scheduler, folders, preview, estimate, figures,
                          notify < app < status, check < web/, screens, alerts < alerting, demo < daemon < cli
    the shelf             connectors/*, which know `syncd.connector`, `syncd.kit` and nothing else of the house
"""

__version__ = "0.1.0"
