"""What Alembic runs: every migration in the one transaction it is given, so that nothing is left half done."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
