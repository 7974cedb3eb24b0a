"""The screen."""

from flask_admin import BaseView, expose


class LoginManagementView(BaseView):
    def __init__(self):
        super().__init__(
            name="Login Management",
            endpoint="admin-active-sessions",
            category="Users / Access Control",
        )

    @expose("/")
    def index(self):
        return "x"
